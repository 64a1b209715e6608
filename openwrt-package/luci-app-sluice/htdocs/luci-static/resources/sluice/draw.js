// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require dom';

/* What pages are made of. Text is text here, whoever wrote it. */

var SVG = 'http://www.w3.org/2000/svg';

/* Control characters, and those that turn the direction of writing or are not seen. */
var UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function clean(text) {
	return String(text).replace(UNSEEN, '\ufffd');
}

/* Children of any depth, without gaps, strings cleaned. */
function flat(children, into) {
	children.forEach(function(child) {
		if (Array.isArray(child))
			flat(child, into);
		else if (child != null && child !== false)
			into.push(dom.elem(child) ? child : clean(child));
	});
	return into;
}

/* An element. Its children go in as an array: a string alone would be taken for markup. */
function el(tag, attributes) {
	return E(tag, attributes || {}, flat(Array.prototype.slice.call(arguments, 2), []));
}

function svg(tag, attributes, children) {
	var node = document.createElementNS(SVG, tag);
	for (var name in attributes)
		node.setAttribute(name, attributes[name]);
	(children || []).forEach(function(child) { node.appendChild(child); });
	return node;
}

/* The background that is behind everything, as red, green and blue. */
function background() {
	var nodes = [ document.body, document.documentElement ];
	for (var i = 0; i < nodes.length; i++) {
		var parts = getComputedStyle(nodes[i]).backgroundColor.match(/[\d.]+/g);
		if (parts && (parts.length < 4 || +parts[3] > 0))
			return parts.slice(0, 3).map(Number);
	}
	return [ 255, 255, 255 ];
}

/* Takes the side, light or dark, of the theme around it. */
function tint(root) {
	var part = background();
	root.classList.toggle('sluice-dark', 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2] < 128);
	return root;
}

/* With the version of what is installed, as LuCI asks for scripts: browsers keep a file for long. */
function style() {
	var version = L.env.resource_version, href = L.resource('sluice/sluice.css') + (version ? '?v=' + version : '');
	if (!document.querySelector('link[href="' + href + '"]'))
		document.head.appendChild(E('link', { 'rel': 'stylesheet', 'href': href }));
}

function scaled(value, units, base) {
	var at = 0;
	while (value >= base && at < units.length - 1) {
		value /= base;
		at++;
	}
	var text = value >= 100 || at == 0 ? Math.round(value) : value.toFixed(1);
	return [ text, units[at] ];
}

return baseclass.extend({
	el: el,
	clean: clean,
	tint: tint,

	/* The root of a page: its style sheet, and the side of the theme. */
	page: function() {
		style();
		var root = el('div', { 'class': 'sluice' }, Array.prototype.slice.call(arguments));
		var again = function() { tint(root); };
		window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', function() {
			window.setTimeout(again, 0);
		});
		new MutationObserver(again).observe(document.documentElement, { attributes: true });
		return tint(root);
	},

	/* Puts children into a node, in the place of what was there. */
	fill: function(node) {
		while (node.firstChild)
			node.removeChild(node.firstChild);
		dom.append(node, flat(Array.prototype.slice.call(arguments, 1), []));
		return node;
	},

	/* The same, but a node that already is so is left alone: what a person has selected in it stays. */
	renew: function(node) {
		var fresh = E('div', {}, flat(Array.prototype.slice.call(arguments, 1), []));
		if (fresh.innerHTML != node.innerHTML)
			this.fill(node, Array.prototype.slice.call(fresh.childNodes));
		return node;
	},

	/* Says in a head why there is nothing: what is so, and what that means. */
	absent: function(head, text, more) {
		return this.fill(head, el('h2', { 'class': 'sluice-bad' }, text[0]), el('p', {}, text[1]), more);
	},

	/* What is wrong, the first twenty; each a text or parts of one. */
	warnings: function(items) {
		return items && items.length ? el('ul', { 'class': 'sluice-warnings' }, items.slice(0, 20).map(function(item) {
			return el('li', {}, item);
		})) : null;
	},

	/* What is known of something: pairs of a title and what it is, those left out that are nothing. */
	facts: function(lines) {
		return el('dl', { 'class': 'sluice-facts' }, lines.filter(function(line) { return line[1]; }).map(function(line) {
			return [ el('dt', {}, line[0]), el('dd', {}, line[1]) ];
		}));
	},

	/* A whole number; from a million on shortened. */
	count: function(value) {
		if (value < 1e6)
			return Math.round(value).toLocaleString();
		var parts = scaled(value / 1e6, [ _('million'), _('billion') ], 1e3);
		return parts[0] + '\u00a0' + parts[1];
	},

	bytes: function(value) {
		return scaled(value, [ 'B', 'KiB', 'MiB', 'GiB', 'TiB' ], 1024).join('\u00a0');
	},

	/* Bits a second. */
	rate: function(value) {
		return scaled(value, [ 'bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s' ], 1000).join('\u00a0');
	},

	/* A length of time, in its largest unit. */
	span: function(seconds) {
		if (seconds < 60)
			return _('%d s').format(seconds);
		if (seconds < 3600)
			return _('%d min').format(seconds / 60);
		return seconds < 172800 ? _('%d h').format(seconds / 3600) : _('%d days').format(seconds / 86400);
	},

	ago: function(seconds) {
		return seconds < 1 ? _('now') : _('%s ago').format(this.span(seconds));
	},

	/* How much of something is used, as a line. */
	bar: function(share, name) {
		var width = Math.max(0, Math.min(1, share || 0)) * 100;
		return el('div', {
			'class': 'sluice-bar' + (width >= 90 ? ' is-full' : ''),
			'role': 'img',
			'aria-label': clean(name)
		}, el('span', { 'style': 'width:' + width.toFixed(1) + '%' }));
	},

	/*
	 * Lines over time, the last value at the right. Each of `lines` is a list of `length` values at
	 * most; null is a gap.
	 */
	chart: function(lines, length, name) {
		var width = 600, height = 80, top = 1;
		lines.forEach(function(line) {
			line.forEach(function(value) { top = Math.max(top, value || 0); });
		});
		var paths = lines.map(function(line, number) {
			var path = '', pen = 'M';
			line.forEach(function(value, at) {
				if (value == null) {
					pen = 'M';
					return;
				}
				var x = width - (line.length - 1 - at) * width / (length - 1);
				path += pen + x.toFixed(1) + ' ' + (height - 2 - value / top * (height - 4)).toFixed(1);
				pen = 'L';
			});
			return svg('path', { 'd': path, 'class': 'sluice-line-' + number, 'fill': 'none',
				'vector-effect': 'non-scaling-stroke' });
		});
		return svg('svg', { 'viewBox': '0 0 ' + width + ' ' + height, 'preserveAspectRatio': 'none',
			'class': 'sluice-chart', 'role': 'img', 'aria-label': clean(name) }, paths);
	}
});
