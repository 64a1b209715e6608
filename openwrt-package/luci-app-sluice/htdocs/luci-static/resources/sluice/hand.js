// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require ui';
'require sluice.agent as agent';
'require sluice.draw as draw';

/* What a person decides. Only what the agent can do and the session may ask for is offered. */

var el = draw.el;

/* How long a decision lasts; 0 is for ever. */
var spans = [ [ 3600, _('for an hour') ], [ 86400, _('for a day') ], [ 0, _('always') ] ];

function choice(name, pairs) {
	return el('select', { 'class': 'cbi-input-select', 'aria-label': name }, pairs.map(function(pair) {
		return el('option', { 'value': pair[0] }, pair[1]);
	}));
}

/* A button that is busy until its promise ends. */
function button(title, style, press) {
	return el('button', {
		'type': 'button',
		'class': 'btn cbi-button cbi-button-' + style,
		'click': ui.createHandlerFn(null, press)
	}, title);
}

/* The place for what came of a decision. */
function outcome() {
	return el('div', { 'class': 'sluice-outcome', 'role': 'status' });
}

function said(place, text, undo) {
	draw.fill(place, el('span', { 'class': 'sluice-good' }, text), undo ? ' ' : null, undo);
}

function refused(place, why) {
	draw.fill(place, el('span', { 'class': 'sluice-bad' }, why));
}

/* A button that takes a decision back, where the agent says how. */
function undo(place, answer) {
	if (!answer.section || !agent.can('forget'))
		return null;
	return button(_('Undo'), 'neutral', function() {
		return agent.tell('forget', answer.section).then(
			function() { said(place, _('Taken back.')); },
			function(why) { refused(place, why); }
		);
	});
}

/* Fills in one text, whatever is in it. */
function about(text, subject) {
	return text.replace('%s', function() { return subject; });
}

return baseclass.extend({
	button: button,
	outcome: outcome,
	said: said,
	refused: refused,

	/*
	 * The controls for a connection: what it is about (its name and its address), and its device.
	 * Nothing where nothing is offered. `then` is called after each change.
	 */
	decide: function(subjects, device, then) {
		var what = choice(_('What'), subjects.map(function(subject) { return [ subject, subject ]; }));
		var who = choice(_('For whom'), [ [ device, about(_('for %s'), device) ], [ '', _('for everyone') ] ]);
		var span = choice(_('How long'), spans);
		var place = outcome();
		var act = function(method, title, style, done) {
			return agent.can(method) ? button(title, style, function() {
				return agent.tell(method, what.value, who.value, +span.value).then(function(answer) {
					said(place, about(done, what.value), undo(place, answer));
					then();
				}, function(why) { refused(place, why); });
			}) : null;
		};
		var buttons = [ act('allow', _('Allow'), 'positive', _('%s is allowed.')), act('deny', _('Block'), 'negative', _('%s is blocked.')) ];
		var controls = [ subjects.length > 1 ? what : el('strong', {}, subjects[0]), who, span, buttons ];
		if (!buttons.some(Boolean)) {
			/* An agent that only knows addresses, for everyone. */
			var address = subjects[subjects.length - 1];
			controls = this.address(function() { return address; }, span, place, then);
			controls = controls ? [ el('strong', {}, address), span, controls ] : [];
		}
		var pauses = [ this.pausing('pause', device, span, place, then), this.pausing('resume', device, span, place, then) ];
		if (!controls.length && !pauses.some(Boolean))
			return null;
		return el('div', { 'class': 'sluice-decide' },
			controls.length ? el('div', { 'class': 'sluice-controls' }, controls) : null,
			pauses.some(Boolean) ? el('div', { 'class': 'sluice-controls' }, pauses) : null, place);
	},

	/* Stops a device, or lets it go on. */
	pausing: function(method, device, span, place, then) {
		if (!agent.can(method))
			return null;
		var pause = method == 'pause';
		var title = pause ? _('Pause %s') : _('Resume %s');
		return button(about(title, device), pause ? 'negative' : 'neutral', function() {
			var answer = pause ? agent.tell('pause', device, +span.value) : agent.tell('resume', device);
			return answer.then(function(answer) {
				said(place, about(pause ? _('%s is paused.') : _('%s goes on.'), device), undo(place, answer));
				then();
			}, function(why) { refused(place, why); });
		});
	},

	/*
	 * The controls for a device and all it does: a node, and `update`, which offers what fits how it is by now.
	 * `then` is called after each change.
	 */
	device: function(device, then) {
		var mac = device.mac, place = outcome(), shown = [];
		var pauses = choice(_('How long'), [ [ 1800, _('for 30 minutes') ], [ 3600, _('for an hour') ], [ 0, _('until resumed') ] ]);
		var rate = el('input', { 'type': 'number', 'class': 'cbi-input-text', 'min': '0.1', 'max': '1000', 'step': '0.1', 'value': '2',
			'aria-label': _('Mbit/s for each connection') });
		var name = el('input', { 'type': 'text', 'class': 'cbi-input-text', 'maxlength': '63', 'aria-label': _('Name'),
			'placeholder': _('Name') });
		if (device.name_source == 'configuration')
			name.value = device.name;
		/* A button of a method; `args` gives its arguments, and `fits` says for which state it is. */
		var act = function(method, title, style, done, args, fits) {
			if (!agent.can(method))
				return null;
			var node = button(title, style, function() {
				var given = args();
				return given && agent.tell.apply(agent, [ method ].concat(given)).then(function(answer) {
					said(place, about(done, device.name || mac));
					then();
				}, function(why) { refused(place, why); });
			});
			shown.push(function() { node.hidden = !!fits && !fits(); });
			return node;
		};
		/* The rule with this action that was made by hand. */
		var by = function(action) {
			return (device.rules || []).filter(function(rule) {
				return rule.action == action && String(rule.name).indexOf('by_hand_') == 0;
			})[0];
		};
		var has = function(action) { return function() { return !!by(action); }; };
		var kbit = function() {
			var value = Math.round(+rate.value * 1000);
			return value >= 1 && value <= 1000000 ? [ mac, value, 0 ] : refused(place, _('Between 0.1 and 1000 Mbit/s.'));
		};
		var rows = [
			[ pauses, act('pause', _('Pause'), 'negative', _('%s is paused.'), function() { return [ mac, +pauses.value ]; }),
				act('resume', _('Resume'), 'positive', _('%s goes on.'), function() { return [ mac ]; }, has('pause')),
				act('deny', _('Block'), 'negative', _('%s is blocked.'), function() { return [ '', mac, 0 ]; },
					function() { return !by('block'); }),
				act('forget', _('Lift the block'), 'positive', _('%s is no longer blocked.'), function() { return [ by('block').name ]; },
					has('block')) ],
			[ rate, ' Mbit/s ', act('limit', _('Slow each connection down'), 'negative', _('%s is slowed down.'), kbit),
				act('limit', _('As fast as it can'), 'positive', _('%s is slowed down no more.'), function() { return [ mac, 0, 0 ]; },
					has('limit')) ],
			[ name, act('rename', _('Rename'), 'neutral', _('%s has another name now.'), function() { return [ mac, name.value.trim() ]; }) ]
		];
		/* Without a button there is nothing to choose for it. */
		rows = rows.filter(function(row) { return row.some(function(node) { return node && node.tagName == 'BUTTON'; }); });
		var update = function(now) {
			device = now;
			shown.forEach(function(show) { show(); });
		};
		update(device);
		return {
			node: rows.length ? el('div', { 'class': 'sluice-decide' }, rows.map(function(row) {
				return el('div', { 'class': 'sluice-controls' }, row);
			}), place) : el('div', {}),
			update: update
		};
	},

	/* Buttons that block an address or lift that, at once and for everyone. */
	address: function(subject, span, place, then) {
		var act = function(method, title, style, done) {
			return agent.can(method) ? button(title, style, function() {
				var address = subject();
				var answer = method == 'block' ? agent.tell('block', address, +span.value) : agent.tell('unblock', address);
				return answer.then(function() {
					said(place, about(done, address));
					then();
				}, function(why) { refused(place, why); });
			}) : null;
		};
		var buttons = [ act('block', _('Block'), 'negative', _('%s is blocked.')),
			act('unblock', _('Lift the block'), 'neutral', _('%s is no longer blocked.')) ];
		return buttons.some(Boolean) ? buttons : null;
	},

	/* A field for an address, with those buttons. */
	addressField: function(then) {
		var field = el('input', { 'type': 'text', 'class': 'cbi-input-text', 'aria-label': _('Address or network'),
			'placeholder': '198.51.100.7' });
		var span = choice(_('How long'), spans), place = outcome();
		var buttons = this.address(function() { return field.value.trim(); }, span, place, then);
		return buttons ? el('div', { 'class': 'sluice-decide' },
			el('div', { 'class': 'sluice-controls' }, field, span, buttons), place) : null;
	}
});
