// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.rows as rows';
'require sluice.words as words';

/* A page with a list too long for one answer: asked for in parts, again and again. */

var el = draw.el;

return baseclass.extend({
	/*
	 * A page of `of`:
	 *   title, about         its head; `blind(answer)` gives warnings below it
	 *   size, turns          rows in a part; titles of the buttons to the part before and behind
	 *   ask(offset)          asks for a part, `chosen()` says what for beside the offset
	 *   items(answer)        what is in the rows, named by `key(item)` and made by `make(item, page)`
	 *   note(answer, page)   what stands above the rows
	 *   tools, acts, below   nodes in front of and behind those buttons, and below them
	 * `loaded` is the first answer, or the word why there is none.
	 */
	list: function(of, loaded) {
		var head = el('div', { 'class': 'sluice-head', 'role': 'status' });
		var note = el('p', { 'class': 'sluice-soft', 'role': 'status' });
		var list = rows.list(of.key, function(item) { return of.make(item, page); });
		var button = function(title, by) {
			return el('button', { 'type': 'button', 'class': 'btn cbi-button', 'click': function() {
				page.again(Math.max(0, page.offset + by));
			} }, title);
		};
		var before = button(of.turns[0], -of.size), behind = button(of.turns[1], of.size);

		function asked() {
			return [ page.offset, of.chosen ? of.chosen() : '' ].join(' ');
		}

		function show(told, why) {
			draw.tint(page.node);
			list.node.classList.toggle('is-old', !!why);
			if (why) {
				draw.absent(head, words.absence(why));
				return;
			}
			/* The answer to what was asked before the page was turned. */
			if (told.asked != asked())
				return;
			var items = of.items(told.answer);
			page.answer = told.answer;
			draw.renew(head, el('h2', {}, of.title), el('p', {}, of.about), of.blind ? draw.warnings(of.blind(told.answer)) : null);
			before.disabled = page.offset == 0;
			behind.disabled = page.offset + items.length >= told.answer.total;
			list.show(items);
			page.note();
		}

		var page = {
			offset: 0,
			answer: null,
			list: list,

			/* Says again what stands above the rows. */
			note: function() {
				if (page.answer)
					draw.renew(note, of.note(page.answer, page) + list.waiting());
			},

			/* Shows the rows that fit; how many those are, and of how many. */
			filter: function(fits) {
				var all = Object.keys(list.rows).map(function(id) { return list.rows[id]; });
				var hidden = all.filter(function(row) { return row.node.hidden = !fits(row); });
				return [ all.length - hidden.length, all.length ];
			},

			/* Asks for other rows. */
			again: function(offset) {
				page.offset = offset;
				list.close();
				return page.look();
			}
		};
		page.node = draw.page(head, el('div', { 'class': 'sluice-tools' }, of.tools, before, behind, of.acts), of.below, note, list.node);
		show({ answer: loaded, asked: asked() }, typeof loaded == 'string' ? loaded : null);
		page.look = agent.watch(function() {
			var key = asked();
			return of.ask(page.offset).then(function(answer) { return { answer: answer, asked: key }; });
		}, show);
		return page;
	},

	/* A field that `filter` is called by. */
	search: function(example, filter) {
		return el('input', { 'type': 'search', 'class': 'cbi-input-text', 'aria-label': _('Filter'), 'placeholder': example, 'input': filter });
	},

	/* Choices, each with its title. */
	choice: function(name, pairs, change) {
		return el('select', { 'class': 'cbi-input-select', 'aria-label': name, 'change': change }, pairs.map(function(pair) {
			return el('option', { 'value': pair[0] }, pair[1]);
		}));
	},

	/* The first answer, or the word why there is none. */
	first: function(question) {
		return question.catch(function(why) { return why; });
	}
});
