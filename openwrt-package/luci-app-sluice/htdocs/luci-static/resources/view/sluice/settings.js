// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require view';
'require form';
'require uci';
'require sluice.draw as draw';
'require sluice.forms as forms';
'require sluice.options.main as options';

/* The agent as a whole, its interfaces, and what strangers may do. */

function mistakes(status) {
	var errors = status.config_errors || [], warnings = status.config_warnings || [];
	if (!errors.length && !warnings.length)
		return null;
	return draw.el('ul', { 'class': 'sluice-warnings' }, errors.concat(warnings).slice(0, 20).map(function(text) {
		return draw.el('li', {}, text);
	}));
}

return view.extend({
	load: function() {
		return uci.load('sluice');
	},

	render: function() {
		var head = draw.el('div', { 'class': 'sluice-panel', 'role': 'status' }), page = draw.page(head);
		var map = new form.Map('sluice', _('Settings'), _('What is left empty has its default, which is right for most routers.'));
		forms.single(map, 'sluice', 'main', _('Sluice'), null, options.main, [
			[ 'general', _('General') ], [ 'inspection', _('Inspection') ], [ 'memory', _('Memory') ], [ 'system', _('System') ]
		]);
		forms.grid(map, 'interface', _('Interfaces'), _('One at least towards the provider (wan) and one towards home (lan).'), options['interface']);
		forms.single(map, 'ddos', 'limits', _('Strangers'), _('What senders on the internet may do. A rate of 0 is no limit.'), options.ddos, [
			[ 'senders', _('Senders') ], [ 'targets', _('Your addresses') ], [ 'checks', _('Checks') ]
		]);
		forms.grid(map, 'ignore', _('Never inspected'), _('Connections that are left alone, but for blocklists and limits.'), options.ignore);
		return forms.page(this, map, page, head, mistakes);
	}
});
