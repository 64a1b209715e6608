// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.hand as hand';
'require sluice.pages as pages';
'require sluice.rows as rows';
'require sluice.words as words';

/* The connections that were decided, why, and what can be done about it. */

var el = draw.el;

/* Connections on a page. */
var PAGE = 100;

function key(flow) {
	return [ flow.transport, flow.src, flow.sport, flow.dst, flow.dport ].join(' ');
}

function end(address, port) {
	return (address.indexOf(':') < 0 ? address : '[' + address + ']') + ':' + port;
}

/* Who decided: the rule or list, and what of it fits. */
function decider(flow) {
	var by = flow.rule || flow.list;
	if (by && flow.entry)
		return by + ' (' + flow.entry + ')';
	return by || (flow.observed ? _('would be blocked by %s').replace('%s', function() { return flow.observed; }) : '');
}

/* What the device of a flow calls itself: as the agent knows it, else as the router does. */
function device(flow, names) {
	return flow.device_name || names[flow.src];
}

/* Everything of a flow that somebody may look for. */
function haystack(flow, names) {
	return [ flow.src, device(flow, names), flow.dst, flow.name, flow.dport, flow.verdict, words.verdict(flow.verdict),
		words.reason(flow.reason), flow.rule, flow.list, flow.entry, flow.observed, flow.protocol, flow.app, flow.transport
	].join('\n').toLowerCase();
}

function facts(flow) {
	return draw.facts([
		[ _('Device'), flow.device_name ],
		[ _('From'), end(flow.src, flow.sport) ],
		[ _('To'), end(flow.dst, flow.dport) + ', ' + flow.transport.toUpperCase() ],
		[ _('Name'), flow.name && flow.name + (flow.name_source ? ' (' + words.source(flow.name_source) + ')' : '') ],
		[ _('Speaks'), flow.protocol && flow.protocol + (flow.app ? ', ' + flow.app : '') ],
		[ _('Hidden name'), flow.ech ? _('The name may stand for another one.') : null ],
		[ _('Would be blocked by'), flow.observed ],
		[ _('Inspected'), _('%d packets').format(flow.inspected_packets) ],
		[ _('Sent'), _('%s in %s packets').format(draw.bytes(flow.original_bytes), draw.count(flow.original_packets)) ],
		[ _('Received'), _('%s in %s packets').format(draw.bytes(flow.reply_bytes), draw.count(flow.reply_packets)) ],
		[ _('Last packet'), draw.ago(flow.idle_s) ],
		[ 'JA4', flow.ja4 ],
		[ 'JA3', flow.ja3 ]
	]);
}

var actions = {
	drop: _('dropped'), block: _('blocked'), reject: _('blocked'), allow: _('allowed'), trust: _('trusted'),
	observe: _('would be blocked')
};

function causes(answer) {
	if (!answer.causes.length)
		return el('p', { 'class': 'sluice-soft' }, _('No rule and no list names it.'));
	return el('ul', { 'class': 'sluice-causes' }, answer.causes.map(function(cause) {
		return el('li', {}, el('strong', {}, actions[cause.action] || cause.action), ' ', _('by'), ' ', cause.by, ': ', cause.entry,
			cause.packets ? el('span', { 'class': 'sluice-soft' }, ' ', _('%s packets').format(draw.count(cause.packets))) : null);
	}));
}

/* One connection; what is behind it is made when it is opened. */
function Row(page, names, flow) {
	var row = rows.row([ 'verdict', 'to', 'from', 'why', 'data', 'age' ],
		function(inside) { open(this.flow, inside); }.bind(this), function() { page.list.held(); });
	this.node = row.node;
	this.node.classList.add('sluice-flow');
	this.cells = row.cells;
	this.names = names;
	this.update(flow);
}

Row.prototype.update = function(flow) {
	var c = this.cells, names = this.names, name = device(flow, names);
	this.flow = flow;
	this.text = haystack(flow, names);
	c.verdict.className = 'sluice-verdict is-' + draw.clean(flow.verdict);
	draw.renew(c.verdict, words.verdict(flow.verdict));
	draw.renew(c.to, el('b', {}, flow.name || flow.dst), ' ', el('span', { 'class': 'sluice-soft' }, flow.name ? end(flow.dst, flow.dport) : String(flow.dport)));
	draw.renew(c.from, name ? [ name, ' ', el('span', { 'class': 'sluice-soft' }, flow.src) ] : flow.src);
	var by = decider(flow);
	draw.renew(c.why, words.reason(flow.reason), by ? ': ' : null, by ? el('span', {}, by) : null);
	draw.renew(c.data, draw.bytes(flow.original_bytes + flow.reply_bytes));
	draw.renew(c.age, draw.ago(flow.age_s));
};

/* What is behind a row. */
function open(flow, inside) {
	var subject = flow.name || flow.dst, subjects = flow.name ? [ flow.name, flow.dst ] : [ flow.dst ];
	var why = el('div', {}, el('p', { 'class': 'sluice-soft' }, _('Asking why…')));
	var ask = function() {
		return agent.ask('why', subject).then(function(answer) { draw.fill(why, causes(answer)); }, function(word) {
			draw.fill(why, el('p', { 'class': 'sluice-bad' }, words.absence(word)[0]));
		});
	};
	draw.fill(inside, why, hand.decide(subjects, flow.src, ask), facts(flow));
	return ask();
}

return view.extend({
	load: function() {
		return Promise.all([ pages.first(agent.ask('flows', 0, PAGE)), agent.names(), agent.learn() ]);
	},

	render: function(loaded) {
		var again = function() { page.note(); };
		var search = pages.search(_('Name, address, device, rule…'), again);
		var only = pages.choice(_('Which'), [ [ '', _('All') ], [ 'blocked', _('Blocked') ], [ 'trusted', _('Passed') ], [ 'limited', _('Slowed') ] ], again);
		var page = pages.list({
			title: _('Activity'),
			about: _('Connections that were decided, the last first. Open one to see why, and to change it.'),
			size: PAGE,
			turns: [ _('Newer'), _('Older') ],
			ask: function(offset) { return agent.ask('flows', offset, PAGE); },
			items: function(answer) { return answer.flows; },
			key: key,
			make: function(flow, page) { return new Row(page, loaded[1], flow); },
			note: function(answer, page) {
				var wanted = search.value.trim().toLowerCase();
				var fits = page.filter(function(row) { return (!only.value || row.flow.verdict == only.value) && row.text.indexOf(wanted) >= 0; });
				var shown = fits[0], all = fits[1];
				/* Rows that are held may be over by now. */
				var total = draw.count(Math.max(answer.total, page.offset + all));
				return !all ? _('No connection was decided yet.')
					: shown < all ? _('%d of %d shown, of %s in all.').format(shown, all, total)
						: _('%d to %d of %s.').format(page.offset + 1, page.offset + all, total);
			},
			tools: [ search, only ]
		}, loaded[0]);
		return page.node;
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
