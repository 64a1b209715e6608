// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';

/* The double of LuCI's forms and of its copy of the configuration: shown, edited, saved, applied. */

const uci = {
	values: {},
	calls: Object.fromEntries([ [ 'get', [ 'config' ] ], [ 'add', [ 'config', 'type', 'name', 'values' ] ],
		[ 'set', [ 'config', 'section', 'values' ] ], [ 'delete', [ 'config', 'section', 'options' ] ], [ 'apply', [ 'rollback', 'timeout' ] ]
	].map(([ method, params ]) => [ method, rpc.declare({ object: 'uci', method, params, reject: true }) ])),
	/* What was changed since it was saved, as calls. */
	pending: [],
	load: (config) => uci.calls.get(config).then((answer) => { uci.values[config] = answer.values; }),
	sections: (config, type, each) => Object.values(uci.values[config]).filter((section) => section['.type'] == type)
		.sort((a, b) => a['.index'] - b['.index']).map((section) => {
			if (each)
				each(section, section['.name']);
			return section;
		}),
	get: (config, section, option) => (uci.values[config][section] || {})[option],
	add(config, type, name) {
		uci.values[config][name] = { '.type': type, '.name': name, '.index': 1000 + uci.pending.length };
		uci.pending.push(() => uci.calls.add(config, type, name, {}));
	},
	set(config, section, option, value) {
		uci.values[config][section][option] = value;
		uci.pending.push(() => uci.calls.set(config, section, { [option]: value }));
	},
	unset(config, section, option) {
		delete uci.values[config][section][option];
		uci.pending.push(() => uci.calls.delete(config, section, [ option ]));
	},
	remove(config, section) {
		delete uci.values[config][section];
		uci.pending.push(() => uci.calls.delete(config, section));
	},
	save: () => uci.pending.splice(0).reduce((before, call) => before.then(call), Promise.resolve()),
	apply: () => uci.calls.apply(true, 90)
};

const sessionAccess = rpc.declare({ object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: false } });

/* An option; a subclass says what stands in the page for it. */
class Value {
	constructor(section, name, title, description) {
		Object.assign(this, { section, option: name, title, description, rmempty: true, keys: [] });
	}
	get map() { return this.section.map; }
	value(key, label) { this.keys.push([ key, label || key ]); }
	cfgvalue(id) { return uci.get(this.map.config, id, this.option); }
	textvalue(id) {
		const value = this.cfgvalue(id) ?? this.default;
		return value == null ? null : '%h'.format(L.toArray(value).join(' '));
	}
	widget(value) {
		const field = E('input', { 'type': 'text', 'placeholder': this.placeholder });
		field.value = value ?? '';
		return field;
	}
	formvalue(node) { return node.value; }
	render(id) {
		const node = this.widget(this.cfgvalue(id));
		node.id = 'widget.cbid.%s.%s.%s'.format(this.map.config, id, this.option);
		if (this.map.readonly)
			node.disabled = true;
		this.nodes = { ...this.nodes, [id]: node };
		return E('div', { 'class': 'cbi-value' }, [ E('label', { 'for': node.id }, this.title), node,
			E('div', { 'class': 'cbi-value-description' }, this.description) ]);
	}
	/* Takes over what stands in the page. */
	parse(id) {
		const node = (this.nodes || {})[id];
		if (!node || !node.isConnected)
			return;
		const value = this.formvalue(node), before = this.cfgvalue(id);
		const isEmpty = value == null || value.length == 0;
		for (const one of [].concat(isEmpty ? [] : value)) {
			const verdict = this.validate ? this.validate(id, one) : true;
			if (verdict !== true)
				throw new Error('%s: %s'.format(this.title, verdict));
		}
		if (isEmpty && !this.rmempty && !this.optional)
			throw new Error('Option "%s" must not be empty.'.format(this.title));
		/* A default that was not there before is written, but for flags. */
		if (isEmpty)
			this.remove(id);
		else if (JSON.stringify(value) != JSON.stringify(before))
			this.write(id, value);
	}
	write(id, value) { uci.set(this.map.config, id, this.option, value); }
	remove(id) {
		if (this.cfgvalue(id) != null)
			uci.unset(this.map.config, id, this.option);
	}
}

class Flag extends Value {
	widget(value) {
		const box = E('input', { 'type': 'checkbox' });
		box.checked = (value ?? this.default) == '1';
		return box;
	}
	formvalue(node) { return node.checked ? '1' : '0'; }
	write(id, value) { return this.rmempty && value == this.default ? this.remove(id) : super.write(id, value); }
	textvalue(id) { return (this.cfgvalue(id) ?? this.default) == '1' ? 'Yes' : 'No'; }
}

class ListValue extends Value {
	widget(value) {
		const keys = this.optional ? [ [ '', '-' ], ...this.keys ] : this.keys;
		const list = E('select', {}, keys.map(([ key, label ]) => E('option', { 'value': key }, [ label ])));
		list.value = value ?? this.default ?? keys[0][0];
		return list;
	}
}

/* One value on a line. */
class DynamicList extends Value {
	widget(value) {
		const field = E('textarea', { 'placeholder': this.placeholder });
		field.value = L.toArray(value).join('\n');
		return field;
	}
	formvalue(node) { return node.value.split('\n').map((line) => line.trim()).filter((line) => line != ''); }
}

class DummyValue extends Value {
	render() { return E('span'); }
	parse() {}
}

class Section {
	constructor(map, type, title, description) {
		Object.assign(this, { map, type, title, description, children: [] });
	}
	tab() {}
	option(Type, ...args) {
		const option = new Type(this, ...args);
		this.children.push(option);
		return option;
	}
	taboption(tab, ...args) { return this.option(...args); }
	ids() { return uci.sections(this.map.config, this.type).map((section) => section['.name']); }
	fields(id) { return this.children.filter((option) => option.modalonly !== false).map((option) => option.render(id)); }
	parse() { this.ids().forEach((id) => this.children.forEach((option) => option.parse(id))); }
	render() {
		return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, this.title), E('p', {}, this.description || ''),
			...this.ids().map((id) => E('div', {}, this.fields(id))) ]);
	}
}

class NamedSection extends Section {
	constructor(map, name, type, ...rest) {
		super(map, type, ...rest);
		this.name = name;
	}
	render() {
		if (this.ids().length || !this.addremove)
			return super.render();
		const add = () => { uci.add(this.map.config, this.type, this.name); this.map.redraw(); };
		return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, this.title), E('button', { 'class': 'cbi-button-add', 'click': add }, [ 'Add' ]) ]);
	}
}

class GridSection extends Section {
	render() {
		const shown = this.children.filter((option) => !option.modalonly), config = this.map.config;
		const button = (title, click) => E('button', { 'class': 'cbi-button', 'click': click }, [ title ]);
		const rows = this.ids().map((id) => E('tr', { 'data-section-id': id }, [
			E('td', {}, [ id ]), ...shown.map((option) => E('td', {}, option.textvalue(id) ?? E('em', {}, 'none'))),
			E('td', {}, [ button('Edit', () => this.edit(id)),
				this.addremove ? button('Delete', () => { uci.remove(config, id); this.map.redraw(); }) : null ])
		]));
		const name = E('input', { 'type': 'text', 'class': 'cbi-section-create-name' });
		const add = button('Add', () => { uci.add(config, this.type, name.value); this.edit(name.value); });
		return E('div', { 'class': 'cbi-section', 'data-type': this.type }, [ E('h3', {}, this.title), E('p', {}, this.description || ''),
			E('table', {}, [ E('tr', {}, [ 'Name', ...shown.map((option) => option.title), '' ].map((title) => E('th', {}, [ title ]))), ...rows ]),
			...(this.addremove ? [ name, add ] : []) ]);
	}
	edit(id) {
		const close = () => { ui.hideModal(); this.map.redraw(); };
		const save = () => Promise.resolve().then(() => this.children.forEach((option) => option.parse(id))).then(close,
			(error) => dialog.append(E('p', { 'class': 'alert-message' }, [ error.message ])));
		const dialog = ui.showModal(this.modaltitle(id), [ ...this.fields(id), E('button', { 'click': close }, [ 'Dismiss' ]),
			this.map.readonly ? null : E('button', { 'class': 'cbi-button-positive', 'click': save }, [ 'Save' ]) ]);
	}
	/* Options of a table are parsed in its dialogue. */
	parse() {}
}

class FormMap {
	constructor(config, title, description) {
		Object.assign(this, { config, title, description, children: [], node: E('div', { 'class': 'cbi-map' }) });
		form.maps.push(this);
	}
	section(Type, ...args) {
		const section = new Type(this, ...args);
		this.children.push(section);
		return section;
	}
	render() {
		return sessionAccess('uci', this.config, 'write').then((may) => {
			this.readonly = !may;
			return this.redraw();
		});
	}
	redraw() {
		dom.content(this.node, [ E('h2', {}, this.title), E('div', {}, this.description), ...this.children.map((section) => section.render()) ]);
		return this.node;
	}
}

const form = { maps: [], Map: FormMap, GridSection, TypedSection: Section, NamedSection, Value, Flag, ListValue, MultiValue: DynamicList, DynamicList, DummyValue,
	saveAll: () => Promise.resolve().then(() => form.maps.forEach((map) => map.children.forEach((section) => section.parse())))
		.then(uci.save).catch((error) => { dom.content(document.getElementById('view'), E('p', { 'class': 'alert-message' }, [ error.message ])); throw error; }) };

Object.assign(classes, { form, uci });
