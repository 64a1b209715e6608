// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';

/*
 * A double of what LuCI gives its pages: as much as the pages of Sluice use, with what bites there. A
 * child that is a string alone is markup; `expect` hides what went wrong; calls of one moment go out
 * together, and wait for twenty seconds; a poller ticks every second; scripts are asked for with the version
 * of what is installed, and nothing else is. `env` comes from the page around it.
 */

const env = window.env;

function _(text) {
	return text;
}

String.prototype.format = function (...values) {
	return this.replace(/%([dsh%])/g, (all, kind) => {
		if (kind == '%')
			return '%';
		const value = values.shift();
		if (kind == 'd')
			return Math.floor(+value || 0).toFixed(0);
		return kind == 's' ? String(value) : String(value).replace(/[&<>"']/g, (c) => '&#' + c.charCodeAt(0) + ';');
	});
};

const dom = {
	elem: (value) => value != null && typeof value == 'object' && 'nodeType' in value,
	append(node, children) {
		if (Array.isArray(children)) {
			for (const child of children)
				if (dom.elem(child))
					node.appendChild(child);
				else if (child != null)
					node.appendChild(document.createTextNode(String(child)));
		} else if (dom.elem(children)) {
			node.appendChild(children);
		} else if (children != null) {
			node.innerHTML = String(children);
		}
		return node.lastChild;
	},
	content(node, children) {
		node.replaceChildren();
		return dom.append(node, children);
	},
	attr(node, attributes) {
		for (const [name, value] of Object.entries(attributes || {}))
			if (typeof value == 'function')
				node.addEventListener(name, value);
			else if (value != null)
				node.setAttribute(name, typeof value == 'object' ? JSON.stringify(value) : value);
	}
};

function E(what, attributes, children) {
	if (!(attributes instanceof Object) || Array.isArray(attributes) || dom.elem(attributes))
		[ attributes, children ] = [ null, attributes ];
	const node = Array.isArray(what) ? document.createDocumentFragment()
		: dom.elem(what) ? what : document.createElement(what);
	if (Array.isArray(what))
		dom.append(node, what);
	dom.attr(node, attributes);
	dom.append(node, children);
	return node;
}

const baseclass = {
	extend(members) {
		function Class(...args) {
			if (typeof this.__init__ == 'function')
				this.__init__(...args);
		}
		Object.assign(Class.prototype, this.prototype || {}, members);
		Class.extend = baseclass.extend;
		return Class;
	}
};

/* Requests of one moment, which go out as one. */
let waiting = null;

function send(message) {
	return new Promise((resolve, reject) => {
		if (!waiting) {
			waiting = [];
			setTimeout(() => {
				const batch = waiting;
				waiting = null;
				const body = batch.length == 1 ? batch[0].message : batch.map((one) => one.message);
				fetch(env.ubuspath, { method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(20000) }).then((response) => {
					if (!response.ok)
						throw new Error('HTTP error %d'.format(response.status));
					return response.json();
				}).then((answers) => {
					for (const answer of [].concat(answers))
						batch.find((one) => one.message.id == answer.id).resolve(answer);
				}).catch((error) => batch.forEach((one) => one.reject(error)));
			}, 0);
		}
		waiting.push({ message, resolve, reject });
	});
}

let lastId = 0;

const rpc = {
	declare(options) {
		return function (...args) {
			const params = {};
			(options.params || []).forEach((name, at) => { params[name] = args[at]; });
			const message = { jsonrpc: '2.0', id: ++lastId, method: 'call',
				params: [ env.sessionid, options.object, options.method, params ] };
			return send(message).then((answer) => {
				const named = [ options.object, options.method ];
				if (answer.error)
					throw new Error('RPC call to %s/%s failed with error %d: %s'.format(...named, answer.error.code, answer.error.message));
				const [ status, data ] = answer.result;
				if (options.reject && status !== 0)
					throw new Error('RPC call to %s/%s failed with ubus code %d: %s'.format(...named, status, rpc.getStatusText(status)));
				let told = answer.result.length > 1 ? data : status;
				for (const key in options.expect || {}) {
					if (told != null && key != '')
						told = told[key];
					const kind = (value) => Object.prototype.toString.call(value);
					if (told == null || kind(told) != kind(options.expect[key]))
						told = options.expect[key];
				}
				return told;
			});
		};
	},
	list(...names) {
		return send({ jsonrpc: '2.0', id: ++lastId, method: 'list', params: names.length ? names : undefined })
			.then((answer) => answer.result);
	},
	getStatusText: (status) => ({ 2: 'Invalid argument', 6: 'Permission denied', 9: 'Unspecified error' })[status] || 'Unknown error code'
};

const poll = {
	queue: [],
	tick: 0,
	add(fn, interval) {
		poll.queue.push({ fn, interval, ready: true });
		if (!poll.timer) {
			poll.timer = setInterval(poll.step, 1000);
			poll.step();
		}
		return true;
	},
	step() {
		for (const one of poll.queue)
			if (poll.tick % one.interval == 0 && one.ready) {
				one.ready = false;
				Promise.resolve(one.fn()).finally(() => { one.ready = true; });
			}
		poll.tick++;
	}
};

const ui = {
	createHandlerFn(self, handler, ...bound) {
		const run = typeof handler == 'string' ? self[handler] : handler;
		return (event) => {
			const node = event.currentTarget;
			node.disabled = true;
			node.classList.add('spinning');
			Promise.resolve(run.apply(self, [ ...bound, event ])).finally(() => {
				node.disabled = false;
				node.classList.remove('spinning');
			});
		};
	},
	showModal(title, children, ...classes) {
		ui.hideModal();
		const dialog = E('div', { 'class': [ 'modal', ...classes ].join(' '), 'role': 'dialog' });
		dom.append(dialog, E('h4', {}, title));
		dom.append(dialog, children);
		document.body.appendChild(dialog);
		return dialog;
	},
	hideModal() {
		document.querySelectorAll('.modal').forEach((node) => node.remove());
	}
};

const L = {
	env,
	isObject: (value) => value != null && typeof value == 'object',
	toArray(value) {
		if (value == null)
			return [];
		if (Array.isArray(value))
			return value;
		return typeof value == 'object' ? [ value ] : String(value).trim().split(/\s+/).filter((word) => word != '');
	},
	resolveDefault: (promise, fallback) => Promise.resolve(promise).catch(() => fallback),
	resource: (path) => env.resource + '/' + path,
	/* Nothing, when what the menu says about the page does not hold. */
	hasViewPermission: () => env.nodespec.satisfied ? !env.nodespec.readonly : null
};

const view = baseclass.extend({
	__init__() {
		const place = document.getElementById('view');
		return Promise.resolve(this.load()).then((data) => this.render(data)).then((nodes) => {
			dom.content(place, nodes);
			const buttons = [ [ 'handleSaveApply', 'Save & Apply' ], [ 'handleSave', 'Save' ], [ 'handleReset', 'Reset' ] ]
				.filter(([ name ]) => this[name] !== null && document.querySelector('.cbi-map'))
				.map(([ name, title ]) => E('button', { 'class': 'cbi-button', 'click': ui.createHandlerFn(this, name) }, [ title ]));
			if (buttons.length)
				dom.append(place, E('div', { 'class': 'cbi-page-actions' }, buttons));
		}).catch((error) => {
			console.error(error.stack || String(error));
			dom.content(place, E('p', { 'class': 'alert-message' }, [ String(error) ]));
		});
	},
	load() {},
	handleSave: () => classes.form.saveAll(),
	handleSaveApply: () => classes.form.saveAll().then(() => classes.uci.apply()),
	handleReset: () => location.reload()
});

const classes = { baseclass, dom, poll, rpc, ui, view };

/* Loads a class and what it requires at its top, by the name that it has in a path. */
function load(name) {
	if (!(name in classes))
		classes[name] = fetch(L.resource(name.replace(/\./g, '/') + '.js?v=' + env.resource_version)).then((response) => {
			if (!response.ok)
				throw new Error('HTTP error %d while loading %s'.format(response.status, name));
			return response.text();
		}).then((source) => {
			const needs = [], head = /^(?:\s|\/\/[^\n]*\n|\/\*[^]*?\*\/)*'(use strict|require (\S+?)(?: as (\S+))?)';/;
			for (let rest = source, found; (found = head.exec(rest)); rest = rest.slice(found[0].length))
				if (found[2])
					needs.push([ found[2], found[3] || found[2].replace(/\W/g, '_') ]);
			return Promise.all(needs.map((need) => load(need[0]))).then((instances) => {
				const make = Function(...needs.map((need) => need[1]), source + '\n//# sourceURL=' + name);
				const Class = make(...instances);
				return classes[name] = new Class();
			});
		});
	return Promise.resolve(classes[name]);
}

Object.assign(window, { E, L, _ });
