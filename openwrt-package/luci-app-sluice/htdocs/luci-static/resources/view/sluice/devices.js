// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.hand as hand';
'require sluice.rows as rows';
'require sluice.words as words';

/* Who is in the household, what each sends and receives just now, and what can be done about it. */

var el = draw.el;

/* Devices on a page, and names of servers for each. */
var PAGE = 100, NAMES = 8;

function key(device) {
	return device.mac;
}

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
	return el('dl', { 'class': 'sluice-facts' }, lines.filter(function(line) { return line[1]; }).map(function(line) {
		return [ el('dt', {}, line[0]), el('dd', {}, line[1]) ];
	}));
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
		return Promise.all([
			agent.ask('devices', 0, PAGE).catch(function(why) { return why; }),
			agent.learn()
		]);
	},

	render: function(loaded) {
		this.offset = 0;
		this.head = el('div', { 'class': 'sluice-head', 'role': 'status' });
		this.list = rows.list(key, function(device) { return new Row(this, device); }.bind(this));
		this.note = el('p', { 'class': 'sluice-soft', 'role': 'status' });
		this.search = el('input', { 'type': 'search', 'class': 'cbi-input-text', 'aria-label': _('Filter'),
			'placeholder': _('Name, address, group…'), 'input': this.filter.bind(this) });
		this.before = el('button', { 'type': 'button', 'class': 'btn cbi-button', 'click': this.turn.bind(this, -PAGE) }, _('More traffic'));
		this.after = el('button', { 'type': 'button', 'class': 'btn cbi-button', 'click': this.turn.bind(this, PAGE) }, _('Less traffic'));
		this.page = draw.page(this.head, el('div', { 'class': 'sluice-tools' }, this.search, this.before, this.after), this.note, this.list.node);
		if (typeof loaded[0] == 'string')
			this.show(null, loaded[0]);
		else
			this.show(loaded[0], null);
		this.look = agent.watch(function() {
			return agent.ask('devices', this.offset, PAGE);
		}.bind(this), this.show.bind(this));
		return this.page;
	},

	turn: function(by) {
		this.offset = Math.max(0, this.offset + by);
		this.list.close();
		this.look();
	},

	show: function(answer, why) {
		draw.tint(this.page);
		if (why) {
			draw.absent(this.head, words.absence(why));
			this.list.node.classList.add('is-old');
			return;
		}
		/* The answer to what was asked before the page was turned. */
		if (answer.offset != this.offset)
			return;
		this.list.node.classList.remove('is-old');
		draw.renew(this.head, el('h2', {}, _('Devices')),
			el('p', {}, _('Who is in the household, those that moved most first. Open one to see more, and to change it.')),
			draw.warnings(answer.blind));
		this.answer = answer;
		this.before.disabled = this.offset == 0;
		this.after.disabled = this.offset + answer.devices.length >= answer.total;
		this.list.show(answer.devices);
		this.filter();
	},

	filter: function() {
		var wanted = this.search.value.trim().toLowerCase(), shown = 0, all = 0;
		for (var id in this.list.rows) {
			var row = this.list.rows[id];
			row.node.hidden = row.text.indexOf(wanted) < 0;
			shown += row.node.hidden ? 0 : 1;
			all++;
		}
		var text = !all ? _('No device was seen yet.') : _('%d of %s shown.').format(shown, draw.count(this.answer.total));
		if (this.answer.interval_ms)
			text += ' ' + _('Rates of the last %s s.').format((this.answer.interval_ms / 1000).toFixed(1));
		draw.renew(this.note, text + this.list.waiting());
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
