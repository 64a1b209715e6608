// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
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
	return [
		draw.warnings(status.config_errors),
		el('div', { 'class': 'sluice-figures' },
			memory(_('Memory of address lists'), image.kib, image.cap_kib),
			memory(_('Memory of domain lists'), names.kib, names.cap_kib),
			memory(_('Memory of rulesets'), rules.kib, rules.cap_kib))
	];
}

function block() {
	var field = hand.addressField(function() {});
	return field ? el('section', { 'class': 'sluice-panel' }, el('h3', {}, _('Block an address now')), field) : null;
}

return view.extend(forms.view(_('Lists'), _('Who is on a list is stopped before anything else is looked at. A list that only observes stops nothing and counts what it would have stopped.'), function(map) {
	forms.grid(map, 'blocklist', _('Blocked addresses'), _('Nobody at home talks to these, and they reach nobody.'), options.blocklist, { columns: columns });
	forms.grid(map, 'domainlist', _('Blocked domains'), _('Advertising, trackers, malware: names and everything below them.'), options.domainlist, { columns: columns });
	forms.grid(map, 'allowlist', _('Exceptions'), _('Addresses that no list stops.'), options.allowlist, { columns: columns });
	forms.grid(map, 'ruleset', _('Signatures'), _('Rules of intrusion detection, compared with the first packets of each connection.'), options.ruleset, { columns: columns });
}, { head: report, ahead: block }));
