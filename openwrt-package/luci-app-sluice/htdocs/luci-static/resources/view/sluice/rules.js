// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.forms as forms';
'require sluice.options.rules as options';

/* What happens to which connections, of whom, and when. */

return view.extend(forms.view(_('Rules and schedules'), _('A rule for one device counts before one for everyone, and the more exact one before the others.'), function(map) {
	forms.grid(map, 'rule', _('Rules'), null, options.rule, { sortable: true, columns: [
		[ _('Concerns'), [ 'domain', 'ip', 'app', 'country', 'port', 'protocol' ], _('everything') ],
		[ _('For'), [ 'device', 'group', 'zone' ], _('everyone') ]
	], tabs: [
		[ 'what', _('What') ], [ 'who', _('Who') ], [ 'when', _('When') ], [ 'how', _('How') ], [ 'prints', _('Fingerprints') ]
	] });
	forms.grid(map, 'schedule', _('Schedules'), _('Times that rules can name.'), options.schedule);
	forms.grid(map, 'group', _('Groups'), _('Devices with one name for rules.'), options.group);
	forms.grid(map, 'device', _('Devices'), _('What devices are called. The page Devices writes it as well.'), options.device);
	forms.grid(map, 'profile', _('Profiles'), _('How packets are marked and how fast they may go.'), options.profile);
}));
