// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require sluice.draw as draw';
'require sluice.forms as forms';
'require sluice.options.main as options';

/* The agent as a whole, its interfaces, and what strangers may do. */

function mistakes(status) {
	return draw.warnings((status.config_errors || []).concat(status.config_warnings || []));
}

return view.extend(forms.view(_('Settings'), _('What is left empty has its default, which is right for most routers.'), function(map) {
	forms.single(map, 'sluice', 'main', _('Sluice'), null, options.main, [
		[ 'general', _('General') ], [ 'inspection', _('Inspection') ], [ 'memory', _('Memory') ], [ 'system', _('System') ]
	]);
	forms.grid(map, 'interface', _('Interfaces'), _('One at least towards the provider (wan) and one towards home (lan).'), options['interface']);
	forms.single(map, 'ddos', 'limits', _('Strangers'), _('What senders on the internet may do. A rate of 0 is no limit.'), options.ddos, [
		[ 'senders', _('Senders') ], [ 'targets', _('Your addresses') ], [ 'checks', _('Checks') ]
	]);
	forms.grid(map, 'ignore', _('Never inspected'), _('Connections that are left alone, but for blocklists and limits.'), options.ignore);
}, { head: mistakes }));
