// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require sluice.draw as draw';

/* A list of rows that can be opened. While one is open nothing moves; a row that is there stays the same node. */

var el = draw.el;

return baseclass.extend({
	/*
	 * A row: cells with these names in its summary, and what `open` puts into it once it is opened. `held`
	 * is called when it was opened or closed.
	 */
	row: function(names, open, held) {
		var cells = {}, inside = el('div', { 'class': 'sluice-inside' });
		names.forEach(function(name) { cells[name] = el('span', { 'class': 'sluice-' + name }); });
		var node = el('details', { 'class': 'sluice-row' },
			el('summary', {}, names.map(function(name) { return cells[name]; })), inside);
		node.addEventListener('toggle', function() {
			if (node.open)
				open(inside);
			held();
		});
		return { node: node, cells: cells };
	},

	/* A list; `key` names what is in a row, `make` makes one, which has `node` and `update`. */
	list: function(key, make) {
		return {
			node: el('div', { 'class': 'sluice-list' }),
			rows: {},
			/* What has no row because one is open. */
			pending: 0,

			/* What is told of those. */
			waiting: function() {
				return this.pending > 0 ? ' ' + _('%d newer ones wait until the open row is closed.').format(this.pending) : '';
			},

			held: function() {
				var open = !!this.node.querySelector('details[open]');
				this.node.classList.toggle('is-held', open);
				return open;
			},

			close: function() {
				this.node.querySelectorAll('details[open]').forEach(function(row) { row.open = false; });
			},

			show: function(items) {
				var held = this.held(), rows = {}, known = this.rows;
				items.forEach(function(item) {
					var id = key(item), row = known[id];
					if (row)
						row.update(item);
					else if (!held)
						row = make(item);
					if (row)
						rows[id] = row;
				});
				this.pending = held ? items.length - Object.keys(rows).length : 0;
				if (!held) {
					this.rows = rows;
					this.place(items.map(function(item) { return rows[key(item)].node; }));
				}
			},

			/* Puts the rows in order without touching those that are in their place. */
			place: function(nodes) {
				var at = this.node.firstChild;
				nodes.forEach(function(node) {
					if (node === at)
						at = at.nextSibling;
					else
						this.node.insertBefore(node, at);
				}, this);
				while (at) {
					var next = at.nextSibling;
					this.node.removeChild(at);
					at = next;
				}
			}
		};
	}
});
