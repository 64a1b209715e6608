// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require form';
'require uci';
'require sluice.agent as agent';
'require sluice.draw as draw';
'require sluice.words as words';

/* Tables of options as forms, and cells in them that tell what is going on. */

var el = draw.el;

/* Shapes that LuCI checks while one types; what the agent wants beyond that it says when it reloads. */
var shapes = {
	nets: 'or(ipaddr,cidr)',
	hosts: 'or(macaddr,ipaddr,cidr)',
	macs: 'macaddr'
};

/* Words of options as people say them. */
var labels = {
	allow: _('Allow'), block: _('Block'), pause: _('Pause'), reject: _('Block and say so'), limit: _('Slow down'), mark: _('Mark'),
	observe: _('Only count'), open: _('Let pass (open)'), closed: _('Stop (closed)'), lan: _('Home (lan)'),
	wan: _('Internet (wan)'), main: _('As the agent says (main)'), mon: _('Mon'), tue: _('Tue'), wed: _('Wed'),
	thu: _('Thu'), fri: _('Fri'), sat: _('Sat'), sun: _('Sun')
};

function label(word) {
	return Object.prototype.hasOwnProperty.call(labels, word) ? labels[word] : word;
}

function path(section, value) {
	return !value || value.charAt(0) == '/' || _('Expecting an absolute path');
}

var kinds = {
	flag: function(s, add) {
		return add(form.Flag);
	},
	word: function(s, add, more) {
		var o = add(form.ListValue);
		more.of.split(' ').forEach(function(word) { o.value(word, label(word)); });
		return o;
	},
	words: function(s, add, more) {
		var o = add(form.MultiValue);
		more.of.split(' ').forEach(function(word) { o.value(word, label(word)); });
		return o;
	},
	number: function(s, add, more) {
		var o = add(form.Value);
		o.datatype = 'range(' + more.from + ',' + more.to + ')';
		return o;
	},
	/* Names of sections of a type. */
	sections: function(s, add, more) {
		var o = add(form.DynamicList);
		uci.sections('sluice', more.of, function(section, name) { o.value(name); });
		return o;
	},
	profile: function(s, add) {
		var o = add(form.Value), own = uci.sections('sluice', 'profile').map(function(section) { return section['.name']; });
		[ 'default', 'bulk', 'interactive', 'video', 'voice', 'critical' ].concat(own).forEach(function(name) { o.value(name); });
		return o;
	},
	path: function(s, add) {
		var o = add(form.Value);
		o.validate = path;
		return o;
	},
	paths: function(s, add) {
		var o = add(form.DynamicList);
		o.validate = path;
		return o;
	},
	text: function(s, add) {
		return add(form.Value);
	}
};

function list(s, add) {
	return add(form.DynamicList);
}

/* Adds an option of a table to a section. */
function option(s, entry, inGrid) {
	var name = entry[0], kind = entry[1], more = entry[4] || {};
	var o = (kinds[kind] || list)(s, function(type) {
		return more.tab ? s.taboption(more.tab, type, name, entry[2], entry[3]) : s.option(type, name, entry[2], entry[3]);
	}, more);
	if (more.shape || shapes[kind])
		o.datatype = more.shape || shapes[kind];
	if (kind == 'flag' || kind == 'word')
		o.default = more.preset;
	else
		o.placeholder = more.preset;
	o.rmempty = !more.required;
	o.optional = kind == 'word' && !more.required && !more.preset;
	/* LuCI leaves out the default of a flag, and of nothing else. */
	if (kind == 'word' && more.preset && !more.required)
		o.write = function(section, value) {
			return value == more.preset ? o.remove(section) : form.ListValue.prototype.write.call(o, section, value);
		};
	if (inGrid && !more.grid)
		o.modalonly = true;
	else if (inGrid && more.of)
		o.textvalue = function(section) {
			return el('span', {}, L.toArray(o.cfgvalue(section) || more.preset).map(label).join(', '));
		};
	return o;
}

function options(s, table, inGrid) {
	table.forEach(function(entry) { option(s, entry, inGrid); });
	return s;
}

function isWritable() {
	return L.hasViewPermission() === true;
}

/* What each kind of list or rule did, from a status. */
var told = {
	blocklist: function(status, name) {
		var one = find(status.lists, name);
		return one && [ _('%s entries').format(draw.count(one.entries)), one.observes
			? _('would have stopped %s connections').format(draw.count(one.flows))
			: _('%s packets stopped').format(draw.count(one.packets)), one.last_s_ago ];
	},
	domainlist: function(status, name) {
		var one = find(status.domain_lists, name);
		return one && [ _('%s names').format(draw.count(one.names)), one.observes
			? _('would have stopped %s connections').format(draw.count(one.flows))
			: _('%s connections stopped').format(draw.count(one.flows)), one.last_s_ago ];
	},
	ruleset: function(status, name) {
		var one = find(status.signatures && status.signatures.rulesets, name);
		return one && [ _('%s rules, %s left out').format(draw.count(one.rules), draw.count(one.unsupported + one.wrong)),
			_('%s alerts').format(draw.count(one.alerts)), null, draw.bytes(one.kib * 1024) ];
	},
	rule: function(status, name) {
		var one = find(status.rules, name);
		return one ? [ one.in_force ? null : _('not at this time'), _('%s connections').format(draw.count(one.flows)), one.last_s_ago ]
			: [ _('nothing so far') ];
	},
	'interface': function(status, name) {
		var features = (status.features || []).filter(function(one) {
			return one.name == 'shield ' + name || one.name == 'fast path ' + name;
		});
		return features.map(function(one) { return words.feature(one.name)[0] + ': ' + words.state(one.state) + ' (' + one.rung + ')'; });
	}
};

function find(all, name) {
	return (all || []).filter(function(one) { return one.name == name; })[0];
}

/* Asks while the page can be seen, and fills cells and `head`. */
function live(head, more) {
	var show = function(status, why) {
		if (head.parentNode)
			draw.tint(head.parentNode);
		if (why) {
			var text = words.absence(why);
			draw.fill(head, el('p', {}, el('strong', { 'class': 'sluice-bad' }, text[0]), ' – ', text[1]));
			return;
		}
		draw.renew(head, more ? more(status) : null);
		document.querySelectorAll('[data-sluice]').forEach(function(cell) {
			var parts = cell.getAttribute('data-sluice').split(':');
			var facts = told[parts[0]](status, parts[1]);
			if (facts && typeof facts[2] == 'number')
				facts[2] = draw.ago(facts[2]);
			draw.renew(cell, facts ? facts.filter(function(fact) { return fact != null; }).join(', ') : _('not in force'));
		});
	};
	var ask = agent.watch(function() { return agent.ask('status'); }, show);
	/* The cells are there once the page is. */
	window.setTimeout(ask, 0);
}

/* The first values of some options of a section, or `none`. */
function summary(name, among, none) {
	var values = [];
	among.forEach(function(option) { values = values.concat(L.toArray(uci.get('sluice', name, option))); });
	return values.length ? values.slice(0, 3).join(', ') + (values.length > 3 ? ', …' : '') : none;
}

/* A column that is no option. */
function column(s, tabs, name, title, text) {
	var o = tabs ? s.taboption(tabs[0][0], form.DummyValue, name, title) : s.option(form.DummyValue, name, title);
	o.modalonly = false;
	o.textvalue = text;
}

return baseclass.extend({
	/*
	 * A table of sections of one type, edited one at a time. `more` may say `sortable`, `tabs`, and in
	 * `columns` a title, options whose values are shown together, and what is shown without any.
	 */
	grid: function(map, type, title, about, table, more) {
		more = more || {};
		var s = map.section(form.GridSection, type, title, about);
		s.anonymous = false;
		s.addremove = isWritable();
		s.nodescriptions = true;
		s.sortable = !!more.sortable && isWritable();
		s.modaltitle = function(name) { return title + ': ' + name; };
		(more.tabs || []).forEach(function(tab) { s.tab(tab[0], tab[1]); });
		options(s, table, true);
		(more.columns || []).forEach(function(one, at) {
			column(s, more.tabs, '_column' + at, one[0], function(name) { return el('span', {}, summary(name, one[1], one[2])); });
		});
		if (told[type])
			column(s, more.tabs, '_told', _('So far'), function(name) {
				return el('span', { 'class': 'sluice-told', 'data-sluice': type + ':' + name }, '–');
			});
		return s;
	},

	/* The only section of a type. Where it is missing it can be added under `name`. */
	single: function(map, type, name, title, about, table, tabs) {
		var there = uci.sections('sluice', type).length > 0;
		var s = there ? map.section(form.TypedSection, type, title, about)
			: map.section(form.NamedSection, name, type, title, about);
		s.anonymous = true;
		s.addremove = !there && isWritable();
		tabs.forEach(function(tab) { s.tab(tab[0], tab[1]); });
		return options(s, table, false);
	},

	/*
	 * What makes a view of a form: `fill` adds the sections to its map. Cells are kept true, and a line above
	 * tells when nobody answers; `more` may make of each status what stands there otherwise (`head`), and
	 * what stands between both (`ahead`), which may offer what the session may do.
	 */
	view: function(title, about, fill, more) {
		more = more || {};
		return {
			load: function() {
				return Promise.all([ uci.load('sluice'), more.ahead ? agent.learn() : null ]);
			},

			render: function() {
				var head = el('div', { 'class': 'sluice-panel', 'role': 'status' });
				var page = draw.page(head, more.ahead ? more.ahead() : null);
				var map = new form.Map('sluice', title, about);
				if (!isWritable())
					this.handleSave = this.handleSaveApply = this.handleReset = null;
				fill(map);
				return map.render().then(function(node) {
					live(head, more.head);
					return [ page, node ];
				});
			}
		};
	}
});
