// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';

/*
 * Options of lists: name, kind, title, meaning, and what the kind needs. A test compares them with
 * config/options.md.
 */

return baseclass.extend({
blocklist: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the list counts.'), { preset: '1', grid: true } ],
	[ 'action', 'word', _('What happens'), _('What happens to packets from and to these addresses: dropped, or nothing; then flows that are inspected are counted, with their devices, as such that would be blocked.'), { of: 'block observe', preset: 'block', grid: true } ],
	[ 'entry', 'nets', _('Addresses'), _('Addresses and prefixes.') ],
	[ 'file', 'paths', _('Files'), _('Files with more entries: one address or prefix on a line, comments behind #.') ],
	[ 'max_entries', 'number', _('Most entries'), _('Most entries, counted as written; with more the configuration is refused. What fits is a question of list_memory_kib.'), { from: 1, to: 2000000, preset: '2000000' } ]
],
allowlist: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the list counts.'), { preset: '1', grid: true } ],
	[ 'entry', 'nets', _('Addresses'), _('Addresses and prefixes.') ],
	[ 'file', 'paths', _('Files'), _('Files with more entries: one address or prefix on a line, comments behind #.') ],
	[ 'role', 'words', _('Sides'), _('Interfaces on which the list counts.'), { of: 'lan wan', preset: 'lan wan', grid: true } ],
	[ 'until', 'text', _('Until'), _('When the list ends, in universal time.') ],
	[ 'max_entries', 'number', _('Most entries'), _('Most entries; with more the configuration is refused.'), { from: 1, to: 262144, preset: '65536' } ]
],
domainlist: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the list counts.'), { preset: '1', grid: true } ],
	[ 'action', 'word', _('What happens'), _('What happens to flows to these names: blocked, or only counted, with their devices, as such that would be.'), { of: 'block observe', preset: 'block', grid: true } ],
	[ 'file', 'paths', _('Files'), _('Files with one name on a line, alone, as *.name, or behind 0.0.0.0 or 127.0.0.1 as in a hosts file; comments behind #. Sub-domains are included.'), { required: true } ],
	[ 'max_entries', 'number', _('Most names'), _('Most names, counted as written; with more the configuration is refused. What fits is a question of domain_memory_kib.'), { from: 1, to: 2000000, preset: '2000000' } ]
],
ruleset: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the rules count.'), { preset: '1', grid: true } ],
	[ 'enforce', 'flag', _('Block what matches'), _('With 1 a match of a rule that drops or rejects blocks its flow; nothing is sent to its ends. With 0 every match is only told.'), { preset: '0', grid: true } ],
	[ 'file', 'paths', _('Files'), _('Files with rules; a number (sid) that comes twice counts once.'), { required: true } ],
	[ 'home_net', 'nets', _('Networks at home'), _('What $HOME_NET stands for, and what $EXTERNAL_NET does not. The default is every private network, whatever the interfaces have.'), { preset: '10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fe80::/10' } ]
]
});
