// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';

/*
 * Options of rules and what they name: name, kind, title, meaning, and what the kind needs. A test compares them with
 * config/options.md.
 */

return baseclass.extend({
rule: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the rule counts.'), { preset: '1', tab: 'what', grid: true } ],
	[ 'action', 'word', _('What happens'), _('What happens to the flow: trusted (allow), dropped (block), dropped and its ends told (reject), held to a rate (limit), trusted with the code point and priority of its profile (mark), only counted as one that would be dropped (observe), or dropped whatever other rules say as long as the rule holds, and then let go on (pause).'), { of: 'allow block reject limit mark observe pause', preset: 'block', tab: 'what', grid: true } ],
	[ 'domain', 'domains', _('Domains'), _('Domains that the ClientHello names; sub-domains are included.'), { tab: 'what' } ],
	[ 'ip', 'nets', _('Addresses'), _('Addresses and prefixes of the other end.'), { tab: 'what' } ],
	[ 'port', 'list', _('Ports'), _('Ports that the connection was opened to; TCP and UDP, unless tcp/ or udp/ stands before them.'), { tab: 'what' } ],
	[ 'app', 'list', _('Applications'), _('Classes of applications, of the file that app_file names, by the name of the server.'), { tab: 'what' } ],
	[ 'country', 'list', _('Countries'), _('Countries of the other end, whose networks are in files of country_dir.'), { tab: 'what' } ],
	[ 'protocol', 'words', _('Protocols'), _('What the flow speaks.'), { of: 'tls quic http http2 ssh dns mdns dhcp dtls stun bittorrent wireguard openvpn rtp ntp smtp imap pop3 ftp sip rtsp ssdp mqtt smb rdp vnc', tab: 'what' } ],
	[ 'device', 'hosts', _('Devices'), _('Devices whose flows are concerned.'), { tab: 'who' } ],
	[ 'group', 'sections', _('Groups'), _('Groups of devices whose flows are concerned, by name of the section.'), { of: 'group', tab: 'who' } ],
	[ 'zone', 'sections', _('Interfaces'), _('Interfaces behind which devices are concerned, by name of the section.'), { of: 'interface', tab: 'who' } ],
	[ 'schedule', 'sections', _('Schedules'), _('Schedules, by name of the section: the rule holds while one of them does.'), { of: 'schedule', tab: 'when' } ],
	[ 'until', 'text', _('Until'), _('When the rule ends, in universal time.'), { tab: 'when' } ],
	[ 'profile', 'profile', _('Profile'), _('Profile of the flow: how its packets are marked when they leave, and the rate, if it has one.'), { tab: 'how' } ],
	[ 'kbit', 'number', _('Rate (kbit/s)'), _('Rate of each direction of each flow, in kbit/s, with action limit; 0 is the rate of its profile.'), { from: 0, to: 1000000, preset: '0', tab: 'how' } ],
	[ 'burst_kib', 'number', _('At once (KiB)'), _('What a quiet direction may send at once, in KiB; 0 is as much as in 300 ms, and 64 at least.'), { from: 0, to: 131072, preset: '0', tab: 'how' } ],
	[ 'ja3', 'list', _('JA3 of the client'), _('JA3 fingerprints of the ClientHello; those of ja3, ja4 and fingerprint_file are alternatives.'), { tab: 'prints' } ],
	[ 'ja4', 'list', _('JA4 of the client'), _('JA4 fingerprints of the ClientHello.'), { tab: 'prints' } ],
	[ 'fingerprint_file', 'paths', _('Files of client fingerprints'), _('Files with more fingerprints, JA3 or JA4: one on a line, what follows a comma is not read, comments behind #. At most 65536.'), { tab: 'prints' } ],
	[ 'ja3s', 'list', _('JA3S of the server'), _('JA3S fingerprints of what the server answers; those of ja3s and ja3s_file are alternatives. Where nothing above such a rule decides, a flow of TLS over TCP is inspected until the answer has come.'), { tab: 'prints' } ],
	[ 'ja3s_file', 'paths', _('Files of server fingerprints'), _('Files with more JA3S fingerprints: one on a line, in any column of CSV, comments behind #.'), { tab: 'prints' } ],
	[ 'certificate', 'list', _('Certificates'), _('SHA-1 fingerprints of the server\'s first certificate; those of certificate and certificate_file are alternatives. TLS 1.3 hides it.'), { tab: 'prints' } ],
	[ 'certificate_file', 'paths', _('Files of certificates'), _('Files with more SHA-1 fingerprints of certificates: one on a line, in any column of CSV, comments behind #. All files of a rule have 65536 fingerprints at most.'), { tab: 'prints' } ]
],
schedule: [
	[ 'day', 'words', _('Days'), _('Days on which its slots begin.'), { of: 'sun mon tue wed thu fri sat', preset: 'mon tue wed thu fri sat sun', grid: true } ],
	[ 'slot', 'list', _('Times'), _('Parts of the day; one that ends before it begins goes on after midnight. Without one, the whole day.'), { grid: true } ]
],
group: [
	[ 'device', 'hosts', _('Devices'), _('Hardware addresses, addresses or prefixes of its devices.'), { required: true, grid: true } ]
],
device: [
	[ 'name', 'text', _('Name'), _('What it is called wherever it is shown, whatever it calls itself.'), { grid: true } ],
	[ 'mac', 'text', _('Hardware address'), _('Its hardware address.'), { required: true, shape: 'macaddr', grid: true } ]
],
profile: [
	[ 'class', 'word', _('Class'), _('Class of traffic, by the tins of CAKE with diffserv4.'), { of: 'none bulk besteffort video voice', preset: 'none', grid: true } ],
	[ 'dscp', 'word', _('Code point'), _('Code point that packets get when they leave; absent, the one of the class; none leaves it alone.'), { of: 'none cs0 le cs1 af11 af12 af13 cs2 af21 af22 af23 cs3 af31 af32 af33 cs4 af41 af42 af43 cs5 va ef cs6 cs7' } ],
	[ 'priority', 'number', _('Priority'), _('Priority of packets for queues of the kernel that look at it (TC_PRIO); 0 leaves it alone.'), { from: 0, to: 15, preset: '0' } ],
	[ 'kbit', 'number', _('Rate (kbit/s)'), _('Rate of each direction of each flow, in kbit/s; 0 is none.'), { from: 0, to: 1000000, preset: '0', grid: true } ],
	[ 'burst_kib', 'number', _('At once (KiB)'), _('What a quiet direction may send at once, in KiB; 0 is as much as in 300 ms, and 64 at least.'), { from: 0, to: 131072, preset: '0' } ]
]
});
