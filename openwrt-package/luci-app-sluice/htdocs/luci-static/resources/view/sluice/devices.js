// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.hand as hand';
'require sluice.pages as pages';
'require sluice.rows as rows';
'require sluice.words as words';

/* Who is in the household, what each sends and receives just now, and what can be done about it. */

var el = draw.el;

/* Devices on a page, and names of servers for each. */
var PAGE = 100, NAMES = 8;

/* What rules do to all that a device does. */
function state(device) {
	return (device.rules || []).map(function(rule) {
		var left = rule.left_s ? ' (' + _('%s left').replace('%s', function() { return draw.span(rule.left_s); }) + ')' : '';
		if (rule.action == 'limit' && rule.kbit)
			return _('Slowed to %s').replace('%s', function() { return draw.rate(rule.kbit * 1000); }) + left;
		return (rule.action == 'pause' ? _('Paused') : rule.action == 'limit' ? _('Slowed') : _('Blocked')) + left;
	});
}

function haystack(device) {
	return [ device.mac, device.name ].concat(device.groups || [], device.addresses, state(device)).join('\n').toLowerCase();
}

function rate(bps) {
	return bps == null ? '–' : draw.rate(bps);
}

function facts(device) {
	var of = { configuration: _('given here'), lease: _('as the device calls itself') };
	var carried = function(bytes, packets) {
		return bytes == null ? null : _('%s in %s packets').format(draw.bytes(bytes), draw.count(packets));
	};
	var lines = [
		[ _('Hardware address'), device.mac + (device.random ? ' (' + _('made up by the device: it may have another one tomorrow') + ')' : '') ],
		[ _('Name'), device.name && device.name + ' (' + (of[device.name_source] || device.name_source) + ')' ],
		[ _('Addresses'), device.addresses.length && device.addresses.join(', ')
			+ (device.more_addresses ? ' ' + _('and %d more').format(device.more_addresses) : '') ],
		[ _('Groups'), device.groups && device.groups.join(', ') ],
		[ _('Interface'), device['interface'] ],
		[ _('Received'), carried(device.down_bytes, device.down_packets) ],
		[ _('Sent'), carried(device.up_bytes, device.up_packets) ],
		[ _('Rules'), device.rules && device.rules.map(function(rule) { return rule.name; }).join(', ') ]
	];
	return draw.facts(lines);
}

/* Names of servers that connections of a device go to, those with the most bytes first. */
function names(flows) {
	var bytes = new Map();
	flows.forEach(function(flow) {
		var name = flow.name || flow.dst;
		bytes.set(name, (bytes.get(name) || 0) + flow.original_bytes + flow.reply_bytes);
	});
	var most = Array.from(bytes).sort(function(a, b) { return b[1] - a[1]; }).slice(0, NAMES);
	return most.length ? el('ol', { 'class': 'sluice-rows' }, most.map(function(one) {
		return el('li', {}, el('span', {}, one[0]), el('span', { 'class': 'sluice-soft' }, draw.bytes(one[1])));
	})) : el('p', { 'class': 'sluice-soft' }, _('It has no connection at the moment.'));
}

/* One device; what is behind it is made when it is opened. */
function Row(page, device) {
	var row = rows.row([ 'to', 'down', 'up', 'from', 'why', 'age' ],
		function(inside) { this.open(page, inside); }.bind(this), function() { page.list.held(); });
	this.node = row.node;
	this.node.classList.add('sluice-device');
	this.cells = row.cells;
	this.update(device);
}

Row.prototype.update = function(device) {
	var c = this.cells, told = state(device);
	this.device = device;
	this.text = haystack(device);
	draw.renew(c.to, el('b', {}, device.name || device.mac), device.name ? [ ' ', el('span', { 'class': 'sluice-soft' }, device.mac) ] : null);
	draw.renew(c.down, '↓ ', rate(device.down_bps));
	draw.renew(c.up, '↑ ', rate(device.up_bps));
	draw.renew(c.from, device.addresses[0]);
	draw.renew(c.why, told.join(', '));
	draw.renew(c.age, device.last_s_ago == null ? null : draw.ago(device.last_s_ago));
	this.node.classList.toggle('is-stopped', told.length > 0);
	if (this.controls) {
		this.controls.update(device);
		draw.renew(this.facts, facts(device));
	}
};

/* What is behind a row. */
Row.prototype.open = function(page, inside) {
	var most = el('div', {}, el('p', { 'class': 'sluice-soft' }, _('Asking…')));
	this.controls = hand.device(this.device, function() { return page.look(); });
	this.facts = el('div', {}, facts(this.device));
	draw.fill(inside, this.controls.node, el('h4', {}, _('Most at the moment')), most, this.facts);
	return agent.ask('why', this.device.mac).then(function(answer) { draw.fill(most, names(answer.flows || [])); }, function(word) {
		draw.fill(most, el('p', { 'class': 'sluice-bad' }, words.absence(word)[0]));
	});
};

return view.extend({
	load: function() {
		return Promise.all([ pages.first(agent.ask('devices', 0, PAGE)), agent.learn() ]);
	},

	render: function(loaded) {
		var search = pages.search(_('Name, address, group…'), function() { page.note(); });
		var page = pages.list({
			title: _('Devices'),
			about: _('Who is in the household, those that moved most first. Open one to see more, and to change it.'),
			blind: function(answer) { return answer.blind; },
			size: PAGE,
			turns: [ _('More traffic'), _('Less traffic') ],
			ask: function(offset) { return agent.ask('devices', offset, PAGE); },
			items: function(answer) { return answer.devices; },
			key: function(device) { return device.mac; },
			make: function(device, page) { return new Row(page, device); },
			note: function(answer, page) {
				var wanted = search.value.trim().toLowerCase();
				var shown = page.filter(function(row) { return row.text.indexOf(wanted) >= 0; });
				var text = !shown[1] ? _('No device was seen yet.') : _('%d of %s shown.').format(shown[0], draw.count(answer.total));
				return text + (answer.interval_ms ? ' ' + _('Rates of the last %s s.').format((answer.interval_ms / 1000).toFixed(1)) : '');
			},
			tools: search
		}, loaded[0]);
		return page.node;
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
