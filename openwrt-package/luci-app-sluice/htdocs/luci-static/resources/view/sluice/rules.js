// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require form';
'require uci';
'require sluice.draw as draw';
'require sluice.forms as forms';
'require sluice.options.rules as options';

/* What happens to which connections, of whom, and when. */

return view.extend({
	load: function() {
		return uci.load('sluice');
	},

	render: function() {
		var head = draw.el('div', { 'class': 'sluice-panel', 'role': 'status' }), page = draw.page(head);
		var map = new form.Map('sluice', _('Rules and schedules'), _('A rule for one device counts before one for everyone, and the more exact one before the others.'));
		forms.grid(map, 'rule', _('Rules'), null, options.rule, { sortable: true, columns: [
			[ _('Concerns'), [ 'domain', 'ip', 'app', 'country', 'port', 'protocol' ], _('everything') ],
			[ _('For'), [ 'device', 'group', 'zone' ], _('everyone') ]
		], tabs: [
			[ 'what', _('What') ], [ 'who', _('Who') ], [ 'when', _('When') ], [ 'how', _('How') ], [ 'prints', _('Fingerprints') ]
		] });
		forms.grid(map, 'schedule', _('Schedules'), _('Times that rules can name.'), options.schedule);
		forms.grid(map, 'group', _('Groups'), _('Devices with one name for rules.'), options.group);
		forms.grid(map, 'profile', _('Profiles'), _('How packets are marked and how fast they may go.'), options.profile);
		return forms.page(this, map, page, head);
	}
});
