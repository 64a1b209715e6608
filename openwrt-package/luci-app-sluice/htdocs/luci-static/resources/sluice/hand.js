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
