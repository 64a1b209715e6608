// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.hand as hand';
'require sluice.rows as rows';
'require sluice.words as words';

/* What happened that somebody should know: looked at, put away, or not told of any more. */

var el = draw.el;

/* Events on a page. */
var PAGE = 50;

/* What is shown: the least severity, and whether it was put away. What a rule of this household blocked is no alert. */
var choices = {
	open: [ _('To look at'), 'notice', 0 ],
	all: [ _('Everything'), '', 0 ],
	away: [ _('Put away'), '', 1 ]
};

/* What a row says already, or nobody needs. */
var said = [ 'type', 'severity', 'what', 'time', 's_ago', 'id', 'archived' ];

function shown(value) {
	return Array.isArray(value) ? value.map(shown).join(', ') : value && typeof value == 'object' ? JSON.stringify(value) : String(value);
}

/* Names of facts are those of the log and of the program that is told. */
function facts(event) {
	var names = Object.keys(event).filter(function(name) { return said.indexOf(name) < 0 && event[name] !== '' && event[name] != null; });
	return el('dl', { 'class': 'sluice-facts' },
		el('dt', {}, _('Importance')), el('dd', {}, words.severity(event.severity)),
		event.time ? [ el('dt', {}, _('Time')), el('dd', {}, new Date(event.time * 1000).toLocaleString()) ] : null,
		names.sort().map(function(name) { return [ el('dt', {}, name), el('dd', {}, shown(event[name])) ]; }));
}

/* One event. */
function Row(page, event) {
	var row = rows.row([ 'kind', 'what', 'age' ],
		function(inside) { page.open(this.event, inside); }.bind(this), function() { page.list.held(); });
	this.node = row.node;
	this.cells = row.cells;
	this.node.classList.add('sluice-event', 'is-' + draw.clean(event.severity).replace(/\W/g, ''));
	this.update(event);
}

Row.prototype.update = function(event) {
	this.event = event;
	draw.renew(this.cells.kind, words.kind(event.type));
	draw.renew(this.cells.what, event.what);
	draw.renew(this.cells.age, draw.ago(event.s_ago));
};

return view.extend({
	load: function() {
		return Promise.all([ agent.ask('events', 0, PAGE, '', choices.open[1], choices.open[2]).catch(function(why) { return why; }), agent.learn() ]);
	},

	render: function(loaded) {
		var button = function(title, press) {
			return el('button', { 'type': 'button', 'class': 'btn cbi-button', 'click': press }, title);
		};
		var choice = function(name, pairs) {
			return el('select', { 'class': 'cbi-input-select', 'aria-label': name, 'change': this.again.bind(this, 0) }, pairs.map(function(pair) {
				return el('option', { 'value': pair[0] }, pair[1]);
			}));
		}.bind(this);
		this.offset = 0;
		this.head = el('div', { 'class': 'sluice-head', 'role': 'status' });
		this.list = rows.list(function(event) { return event.id + ' ' + event.type; }, function(event) { return new Row(this, event); }.bind(this));
		this.note = el('p', { 'class': 'sluice-soft', 'role': 'status' });
		this.silent = el('div');
		this.place = hand.outcome();
		this.kind = choice(_('Kind'), [ [ '', _('All kinds') ] ].concat(words.kinds.map(function(kind) { return [ kind, words.kind(kind) ]; })));
		this.which = choice(_('Which'), Object.keys(choices).map(function(name) { return [ name, choices[name][0] ]; }));
		this.newer = button(_('Newer'), function() { this.again(Math.max(0, this.offset - PAGE)); }.bind(this));
		this.older = button(_('Older'), function() { this.again(this.offset + PAGE); }.bind(this));
		this.away = agent.can('archive') ? hand.button(_('Put all away'), 'neutral', this.putAway.bind(this)) : null;
		this.page = draw.page(this.head,
			el('div', { 'class': 'sluice-tools' }, this.kind, this.which, this.newer, this.older, this.away),
			this.place, this.silent, this.note, this.list.node);
		if (typeof loaded[0] == 'string')
			this.show(null, loaded[0]);
		else
			this.show({ answer: loaded[0], asked: this.asked() }, null);
		this.look = agent.watch(function() {
			var asked = this.asked(), which = choices[this.which.value];
			return agent.ask('events', this.offset, PAGE, this.kind.value, which[1], which[2]).then(function(answer) {
				return { answer: answer, asked: asked };
			});
		}.bind(this), this.show.bind(this));
		return this.page;
	},

	asked: function() {
		return [ this.offset, this.kind.value, this.which.value ].join(' ');
	},

	/* Asks for other events. */
	again: function(offset) {
		this.offset = offset;
		this.list.close();
		this.look();
	},

	show: function(told, why) {
		draw.tint(this.page);
		if (why) {
			draw.absent(this.head, words.absence(why));
			this.list.node.classList.add('is-old');
			return;
		}
		/* The answer to what was asked before something else was chosen. */
		if (told.asked != this.asked())
			return;
		var answer = told.answer, events = answer.events || [];
		this.list.node.classList.remove('is-old');
		draw.renew(this.head, el('h2', {}, _('Alerts')), el('p', {}, _('What happened that somebody should know, the last first. It is forgotten when Sluice starts again.')));
		this.last = events.reduce(function(last, event) { return Math.max(last, event.id); }, this.offset ? this.last : 0);
		this.newer.disabled = this.offset == 0;
		this.older.disabled = this.offset + events.length >= answer.total;
		if (this.away)
			this.away.hidden = this.which.value == 'away' || !events.length;
		this.list.show(events);
		this.mutes(answer.muted || []);
		var note = !events.length ? _('Nothing to look at.') : _('%d to %d of %s.').format(this.offset + 1, this.offset + events.length, draw.count(answer.total));
		draw.renew(this.note, note + this.list.waiting());
	},

	/* Kinds that nobody is told of. */
	mutes: function(muted) {
		var key = muted.join(' ');
		if (this.muted === key)
			return;
		this.muted = key;
		draw.fill(this.silent, muted.length ? el('p', { 'class': 'sluice-controls' }, _('Not told of:'), muted.map(function(kind) {
			return agent.can('unmute')
				? hand.button(_('Tell of %s again').replace('%s', function() { return draw.clean(words.kind(kind)); }), 'neutral', this.act.bind(this, 'unmute', [ kind ], _('It is told again.')))
				: words.kind(kind);
		}, this)) : null);
	},

	act: function(method, args, done) {
		return agent.tell.apply(agent, [ method ].concat(args)).then(function() {
			hand.said(this.place, done);
			this.list.close();
			return this.look();
		}.bind(this), function(why) { hand.refused(this.place, why); }.bind(this));
	},

	/* Up to the last that somebody could see. */
	putAway: function() {
		return this.act('archive', [ undefined, this.kind.value, this.last ], _('Put away.'));
	},

	/* What is behind a row. */
	open: function(event, inside) {
		var quiet = _('No longer tell of: %s').replace('%s', function() { return draw.clean(words.kind(event.type)); });
		draw.fill(inside, el('div', { 'class': 'sluice-controls' },
			agent.can('archive') && !event.archived ? hand.button(_('Put away'), 'positive', this.act.bind(this, 'archive', [ event.id ], _('Put away.'))) : null,
			agent.can('mute') && this.muted.split(' ').indexOf(event.type) < 0
				? hand.button(quiet, 'neutral', this.act.bind(this, 'mute', [ event.type ], _('It is kept here and told nowhere else.'))) : null),
			facts(event));
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
