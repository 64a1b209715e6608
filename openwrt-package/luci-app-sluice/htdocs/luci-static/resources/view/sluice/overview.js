// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.words as words';

/* Whether the router is protected, in one glance. */

var el = draw.el;

/* Looks that the chart keeps: five minutes. */
var KEPT = 61;

/* What the fast path counts of packets that arrive; the shield has no counter of anything else. */
var outcomes = [ 'tc_no_flow', 'tc_unknown', 'tc_inspect', 'tc_trusted', 'tc_drop_blocked', 'tc_new_syn', 'tc_inert',
	'tc_drop_limited', 'tc_limited', 'tc_unattended' ];

/* Packets that arrived, by the program that counts them. */
function arrived(counters) {
	var sums = { xdp: 0, tc: 0 };
	for (var name in counters)
		if (name.indexOf('xdp_') == 0)
			sums.xdp += counters[name];
		else if (outcomes.indexOf(name) >= 0)
			sums.tc += counters[name];
	return sums;
}

/* Packets that arrived from one side: where the shield is, it sees all of them. */
function packets(status, role) {
	return (status.interfaces || []).filter(function(one) { return one.role == role; })
		.reduce(function(sum, one) {
			var sums = arrived(one.counters);
			return sum + Math.max(sums.xdp, sums.tc);
		}, 0);
}

/* Bytes that the devices of one side received, as the kernel counts them; null where it does not say. */
function received(status, role) {
	var told = (status.interfaces || []).filter(function(one) { return one.role == role && typeof one.rx_bytes == 'number'; });
	return told.length ? told.reduce(function(sum, one) { return sum + one.rx_bytes; }, 0) : null;
}

function stopped(status) {
	return (status.drops || []).reduce(function(sum, drop) { return sum + drop.packets; }, 0);
}

/* Share of forwarded packets that belong to trusted connections. */
function trusted(status) {
	var all = 0, short = 0;
	(status.interfaces || []).forEach(function(one) {
		all += arrived(one.counters).tc;
		short += one.counters.tc_trusted || 0;
	});
	return all ? short / all : null;
}

/* What is kept of the looks. */
function History() {
	this.last = null;
	/* Bytes from the internet and from home, and packets. */
	this.lines = [ [], [], [], [] ];
	this.stopped = null;
}

History.prototype.add = function(status, now) {
	var seen = { at: now, values: [ received(status, 'wan'), received(status, 'lan'), packets(status, 'wan'), packets(status, 'lan') ], stopped: stopped(status) };
	var last = this.last, time = last ? (now - last.at) / 1000 : 0;
	/* Too soon after the last look to tell a rate. */
	if (last && time < 1)
		return;
	/* Counters begin anew with another agent; a point is missing then. */
	var rate = function(value, before) { return time > 0 && value != null && before != null && value >= before ? (value - before) / time : null; };
	if (last)
		this.lines.forEach(function(line, at) {
			line.push(rate(seen.values[at], last.values[at]));
			line.splice(0, line.length - KEPT);
		});
	this.stopped = last ? rate(seen.stopped, last.stopped) : null;
	this.last = seen;
};

History.prototype.now = function(line) {
	var values = this.lines[line];
	return values.length ? values[values.length - 1] : null;
};

function perSecond(value, show) {
	return value == null ? '–' : _('%s/s').replace('%s', function() { return (show || draw.count)(value); });
}

/* Bytes a second of each side where the router tells them, else packets. */
function traffic(history) {
	var first = history.lines[0].concat(history.lines[1]).some(function(value) { return value != null; }) ? 0 : 2;
	var now = function(side) {
		var packets = perSecond(history.now(2 + side));
		return first ? el('b', {}, packets) : [ el('b', {}, perSecond(history.now(side), draw.bytes)), ' ',
			el('span', { 'class': 'sluice-soft' }, _('%s packets').replace('%s', function() { return packets; })) ];
	};
	return [
		draw.chart(history.lines.slice(first, first + 2), KEPT, first ? _('Packets a second in the last five minutes') : _('Bytes a second in the last five minutes')),
		el('p', { 'class': 'sluice-legend' },
			el('span', { 'class': 'sluice-key-0' }, _('from the internet')), ' ', now(0), ' ',
			el('span', { 'class': 'sluice-key-1' }, _('from home')), ' ', now(1), ' ',
			el('span', { 'class': 'sluice-soft' }, first ? _('packets, last five minutes') : _('interface totals, last five minutes')))
	];
}

function figure(title, value, note, more) {
	return el('section', { 'class': 'sluice-figure' },
		el('h4', {}, title), el('div', { 'class': 'sluice-value' }, value), el('p', {}, note), more);
}

/* Warnings, the most urgent first. */
function warnings(status) {
	var found = [];
	(status.config_errors || []).forEach(function(text) { found.push([ _('The configuration was refused; the one before it is in force.'), text ]); });
	(status.ddos && status.ddos.attacked || []).forEach(function(one) {
		found.push([ _('Under attack'), one.address ]);
	});
	(status.ddos && status.ddos.victims || []).forEach(function(one) {
		found.push([ _('Gets more than it may'), one.address + ' · ' + words.drop(one.reason) ]);
	});
	var away = status.queue && status.queue.unattended;
	if (away && away.times)
		found.push([ _('Nobody inspected for a while'), _('%d times, %s together; %s packets passed uninspected.')
			.format(away.times, draw.span(away.seconds), draw.count(away.packets)) ]);
	if (status.flows && status.flows.write_errors)
		found.push([ _('The kernel did not take decisions'), draw.count(status.flows.write_errors) ]);
	(status.config_warnings || []).forEach(function(text) { found.push([ _('Configuration'), text ]); });
	return found;
}

function drops(status) {
	var by = {};
	(status.drops || []).forEach(function(drop) { by[drop.reason] = (by[drop.reason] || 0) + drop.packets; });
	var rows = Object.keys(by).map(function(reason) { return [ words.drop(reason), by[reason] ]; });
	rows.sort(function(a, b) { return b[1] - a[1]; });
	if (!rows.length)
		return el('p', { 'class': 'sluice-empty' }, _('Nothing had to be stopped so far.'));
	return el('ul', { 'class': 'sluice-rows' }, rows.map(function(row) {
		return el('li', {}, el('span', {}, row[0]), el('span', { 'class': 'sluice-number' }, draw.count(row[1])),
			draw.bar(row[1] / rows[0][1] * 0.89, row[0]));
	}));
}

/* Who is blocked for a time, and who tries ports. */
function strangers(status) {
	var ddos = status.ddos || {};
	var row = function(who, what, when) {
		return el('li', {}, el('span', {}, el('strong', {}, who), ' ', el('span', { 'class': 'sluice-soft' }, what)),
			el('span', { 'class': 'sluice-number' }, when));
	};
	return (ddos.blocked || []).slice(0, 20).map(function(one) {
		return row(one.entry, words.drop(one.reason), _('blocked for another %s').format(draw.span(one.left_s)));
	}).concat((ddos.scanners || []).slice(0, 20).map(function(one) {
		return row(one.address, _('tries ports %s').format(one.ports.slice(0, 12).join(', ')), draw.ago(one.last_s_ago));
	}));
}

/* Milliseconds within which nineteen of twenty packets had their verdict. */
function waiting(latency) {
	var all = (latency || []).reduce(function(sum, one) { return sum + one.packets; }, 0), sum = 0;
	for (var i = 0; all && i < latency.length; i++) {
		sum += latency[i].packets;
		if (sum >= all * 0.95)
			return latency[i].below_us ? latency[i].below_us / 1000 : null;
	}
	return null;
}

function health(status) {
	var queue = status.queue || {}, flows = status.flows || {}, image = status.list_image || {};
	var names = status.domain_set || {}, ms = waiting(queue.latency), rows = [];
	var add = function(title, text, share) {
		rows.push(el('li', {}, el('span', {}, title), el('span', { 'class': 'sluice-number' }, text),
			share == null ? null : draw.bar(share, title)));
	};
	var lost = 0;
	for (var name in queue.kernel || {})
		if (/drop|lost/.test(name))
			lost += queue.kernel[name];
	add(_('Connections under inspection'), draw.count(queue.inspecting || 0));
	if (ms != null)
		add(_('Delay of first packets'), _('below %s ms').format(ms < 10 ? ms.toFixed(1) : Math.round(ms)));
	add(_('Packets that the queue lost'), draw.count(lost));
	if (flows.capacity)
		add(_('Connections remembered'), _('%s of %s').format(draw.count(flows.entries), draw.count(flows.capacity)), flows.entries / flows.capacity);
	if (image.cap_kib)
		add(_('Memory of address lists'), _('%s of %s').format(draw.bytes(image.kib * 1024), draw.bytes(image.cap_kib * 1024)), image.kib / image.cap_kib);
	if (names.cap_kib)
		add(_('Memory of domain lists'), _('%s of %s').format(draw.bytes(names.kib * 1024), draw.bytes(names.cap_kib * 1024)), names.kib / names.cap_kib);
	var rulesets = status.signatures && status.signatures.rulesets || [];
	if (rulesets.length)
		add(_('Alerts of signatures'), draw.count(rulesets.reduce(function(sum, one) { return sum + one.alerts; }, 0)));
	if (status.offload && status.offload.permille != null)
		add(_('Trusted traffic past the firewall'), (status.offload.permille / 10).toFixed(1) + '\u00a0%');
	return el('ul', { 'class': 'sluice-rows' }, rows);
}

/* What is missing comes first; each says why. */
function ladder(status) {
	var rank = { failed: 0, degraded: 1, starting: 2, active: 3, off: 4 };
	var features = (status.features || []).slice().sort(function(a, b) { return rank[a.state] - rank[b.state]; });
	return el('ul', { 'class': 'sluice-ladder' }, features.map(function(feature) {
		var text = words.feature(feature.name);
		return el('li', { 'class': 'is-' + draw.clean(feature.state) },
			el('div', {}, el('strong', {}, text[0]), el('span', { 'class': 'sluice-soft' }, text[1])),
			el('div', { 'class': 'sluice-state' }, words.state(feature.state),
				feature.rung && feature.rung != 'none' ? el('span', { 'class': 'sluice-soft' }, feature.rung) : null),
			(feature.reasons || []).length ? el('ul', {}, feature.reasons.map(function(reason) { return el('li', {}, reason); })) : null);
	}));
}

return view.extend({
	load: function() {
		return agent.ask('status').catch(function(why) { return why; });
	},

	render: function(first) {
		var history = new History();
		var head = el('div', { 'class': 'sluice-head', 'role': 'status' }), body = el('div');
		var page = draw.page(head, body);
		var show = function(status, why) {
			draw.tint(page);
			if (why) {
				draw.absent(head, words.absence(why),
					history.last ? el('p', { 'class': 'sluice-soft' }, _('What is shown below is the last that was heard.')) : null);
				body.classList.toggle('is-old', !!history.last);
				return;
			}
			history.add(status, Date.now());
			body.classList.remove('is-old');
			var line = words.headline(status);
			draw.renew(head, el('h2', { 'class': 'sluice-' + line[0] }, line[1]), el('p', {}, line[2]),
				el('p', { 'class': 'sluice-soft' }, _('Version %s, running for %s').format(draw.clean(status.version), draw.span(status.uptime_s))));
			this.fill(body, status, history);
		}.bind(this);
		if (typeof first == 'string')
			show(null, first);
		else
			show(first, null);
		agent.watch(function() { return agent.ask('status'); }, show);
		return page;
	},

	/* Each part has a place of its own, which is touched only where something else stands in it now. */
	fill: function(body, status, history) {
		var parts = this.parts || (this.parts = {}), share = trusted(status), found = warnings(status), seen = strangers(status);
		[ 'warnings', 'figures', 'traffic', 'columns', 'strangers', 'ladder' ].forEach(function(name) {
			if (!parts[name])
				body.appendChild(parts[name] = el('div'));
		});
		draw.renew(parts.warnings, draw.warnings(found.map(function(one) { return [ el('strong', {}, one[0]), ' ', one[1] ]; })));
		draw.renew(parts.figures, el('div', { 'class': 'sluice-figures' },
			figure(_('Stopped'), draw.count(stopped(status)), _('packets so far, now %s').format(perSecond(history.stopped))),
			figure(_('On the short way'), share == null ? '–' : Math.floor(share * 100) + '\u00a0%', _('of packets, because their connection is trusted')),
			figure(_('Connections'), draw.count(status.flows.entries), _('decided and remembered'))));
		draw.renew(parts.traffic, el('h3', {}, _('Traffic')), traffic(history));
		draw.renew(parts.columns, el('div', { 'class': 'sluice-columns' },
			el('section', {}, el('h3', {}, _('What was stopped')), drops(status)),
			el('section', {}, el('h3', {}, _('Health')), health(status))));
		draw.renew(parts.strangers, seen.length ? [ el('h3', {}, _('Strangers')), el('ul', { 'class': 'sluice-rows' }, seen) ] : null);
		draw.renew(parts.ladder, el('h3', {}, _('What works')), ladder(status));
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
