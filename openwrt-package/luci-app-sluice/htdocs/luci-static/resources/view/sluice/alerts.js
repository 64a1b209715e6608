// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.hand as hand';
'require sluice.pages as pages';
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
	return draw.facts([
		[ _('Importance'), words.severity(event.severity) ],
		[ _('Time'), event.time && new Date(event.time * 1000).toLocaleString() ]
	].concat(names.sort().map(function(name) { return [ name, shown(event[name]) ]; })));
}

/* One event. */
function Row(view, page, event) {
	var row = rows.row([ 'kind', 'what', 'age' ],
		function(inside) { view.open(this.event, inside); }.bind(this), function() { page.list.held(); });
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
		return Promise.all([ pages.first(this.ask(0, '', 'open')), agent.learn() ]);
	},

	ask: function(offset, kind, which) {
		return agent.ask('events', offset, PAGE, kind, choices[which][1], choices[which][2]);
	},

	render: function(loaded) {
		var again = function() { this.page.again(0); }.bind(this);
		var kind = this.kind = pages.choice(_('Kind'), [ [ '', _('All kinds') ] ].concat(words.kinds.map(function(kind) { return [ kind, words.kind(kind) ]; })), again);
		var which = pages.choice(_('Which'), Object.keys(choices).map(function(name) { return [ name, choices[name][0] ]; }), again);
		var away = agent.can('archive') ? hand.button(_('Put all away'), 'neutral', this.putAway.bind(this)) : null;
		this.silent = el('div');
		this.place = hand.outcome();
		this.last = 0;
		this.page = pages.list({
			title: _('Alerts'),
			about: _('What happened that somebody should know, the last first. It is forgotten when Sluice starts again.'),
			size: PAGE,
			turns: [ _('Newer'), _('Older') ],
			chosen: function() { return [ kind.value, which.value ]; },
			ask: function(offset) { return this.ask(offset, kind.value, which.value); }.bind(this),
			items: function(answer) { return answer.events || []; },
			key: function(event) { return event.id + ' ' + event.type; },
			make: function(event, page) { return new Row(this, page, event); }.bind(this),
			note: function(answer, page) {
				var events = answer.events || [], offset = page.offset;
				this.last = events.reduce(function(last, event) { return Math.max(last, event.id); }, offset ? this.last : 0);
				if (away)
					away.hidden = which.value == 'away' || !events.length;
				this.mutes(answer.muted || []);
				return !events.length ? _('Nothing to look at.') : _('%d to %d of %s.').format(offset + 1, offset + events.length, draw.count(answer.total));
			}.bind(this),
			tools: [ kind, which ],
			acts: away,
			below: [ this.place, this.silent ]
		}, loaded[0]);
		return this.page.node;
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
			return this.page.again(this.page.offset);
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
