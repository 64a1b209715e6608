// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require form';
'require uci';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.forms as forms';
'require sluice.hand as hand';
'require sluice.options.lists as options';

/* Lists of addresses, of domains and of signatures: what they do, and which there are. */

var el = draw.el;

var columns = [ [ _('From'), [ 'file', 'entry' ], _('nothing yet') ] ];

function memory(title, kib, cap) {
	return cap ? el('section', { 'class': 'sluice-figure' }, el('h4', {}, title),
		el('p', {}, _('%s of %s').format(draw.bytes(kib * 1024), draw.bytes(cap * 1024))), draw.bar(kib / cap, title)) : null;
}

function report(status) {
	var image = status.list_image || {}, names = status.domain_set || {}, rules = status.signatures || {};
	var mistakes = status.config_errors || [];
	return [
		mistakes.length ? el('ul', { 'class': 'sluice-warnings' }, mistakes.slice(0, 20).map(function(text) { return el('li', {}, text); })) : null,
		el('div', { 'class': 'sluice-figures' },
			memory(_('Memory of address lists'), image.kib, image.cap_kib),
			memory(_('Memory of domain lists'), names.kib, names.cap_kib),
			memory(_('Memory of rulesets'), rules.kib, rules.cap_kib))
	];
}

return view.extend({
	load: function() {
		return Promise.all([ uci.load('sluice'), agent.learn() ]);
	},

	render: function() {
		var head = el('div', { 'class': 'sluice-panel', 'role': 'status' });
		var field = hand.addressField(function() {});
		var page = draw.page(head, field ? el('section', { 'class': 'sluice-panel' },
			el('h3', {}, _('Block an address now')), field) : null);
		var map = new form.Map('sluice', _('Lists'), _('Who is on a list is stopped before anything else is looked at. A list that only observes stops nothing and counts what it would have stopped.'));
		forms.grid(map, 'blocklist', _('Blocked addresses'), _('Nobody at home talks to these, and they reach nobody.'), options.blocklist, { columns: columns });
		forms.grid(map, 'domainlist', _('Blocked domains'), _('Advertising, trackers, malware: names and everything below them.'), options.domainlist, { columns: columns });
		forms.grid(map, 'allowlist', _('Exceptions'), _('Addresses that no list stops.'), options.allowlist, { columns: columns });
		forms.grid(map, 'ruleset', _('Signatures'), _('Rules of intrusion detection, compared with the first packets of each connection.'), options.ruleset, { columns: columns });
		return forms.page(this, map, page, head, report);
	}
});
