// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';

/*
 * Options of the agent, its interfaces, and strangers: name, kind, title, meaning, and what the kind needs. A test compares them with
 * config/options.md.
 */

return baseclass.extend({
main: [
	[ 'enabled', 'flag', _('Protection'), _('Whether programs and rules do anything.'), { preset: '1', tab: 'general' } ],
	[ 'policy', 'word', _('While inspection is away'), _('What happens to new flows while the agent cannot look at them: forwarded (open) or dropped (closed).'), { of: 'open closed', preset: 'open', tab: 'general' } ],
	[ 'on_error', 'word', _('Connections that cannot be understood'), _('What happens to a flow whose packets cannot be understood.'), { of: 'pass alert drop', preset: 'pass', tab: 'general' } ],
	[ 'management', 'nets', _('Where you manage the router from'), _('Addresses and prefixes from which the router is managed: an entry that overlaps one is left out of every blocklist.'), { tab: 'general' } ],
	[ 'log_level', 'word', _('Log'), _('What is logged.'), { of: 'error warn info debug trace', preset: 'info', tab: 'general' } ],
	[ 'ubus', 'text', _('These pages'), _('Whether the agent offers object sluice on ubus, at the socket that ubusd has unless another path is given. Without ubus the control socket answers all the same.'), { preset: 'on', tab: 'general' } ],
	[ 'clock', 'word', _('Clock'), _('When schedules believe the time of day: once it comes from the network or from a clock with a battery (auto), or always (trust).'), { of: 'auto trust', preset: 'auto', tab: 'general' } ],
	[ 'app_file', 'path', _('Classes of applications'), _('File of classes of applications that rules can name, each line a class, a colon and domains, comments behind #; a domain covers what is below it, and the longest counts.'), { tab: 'general' } ],
	[ 'country_dir', 'path', _('Networks of countries'), _('Directory of the networks of countries that rules can name, for each a file such as de.zone or de.txt with a prefix on each line, comments behind #; of prefixes that cover an address the longest counts. At most 262144 for all countries that rules name.'), { tab: 'general' } ],
	[ 'window_packets', 'number', _('Packets that are inspected'), _('Packets of each direction of a flow that are inspected.'), { from: 1, to: 1000, preset: '10', tab: 'inspection' } ],
	[ 'window_bytes', 'number', _('Bytes that are inspected'), _('Payload bytes of each direction of a flow that are inspected.'), { from: 4096, to: 65536, preset: '32768', tab: 'inspection' } ],
	[ 'inspect_flows', 'number', _('Connections at once'), _('Flows under inspection at once; beyond it the oldest is given up undecided.'), { from: 64, to: 65536, preset: '2048', tab: 'inspection' } ],
	[ 'inspect_memory_kib', 'number', _('Memory for packets (KiB)'), _('Memory for packets of flows under inspection, in KiB.'), { from: 256, to: 65536, preset: '2048', tab: 'inspection' } ],
	[ 'established', 'word', _('Connections before the start'), _('What happens to connections that are there when the agent starts: their next packets are inspected (inspect), or they are trusted unseen (trust), but for those that an earlier agent blocked or could not decide, or that passed while it was away. Counts at a start only.'), { of: 'inspect trust', preset: 'inspect', tab: 'inspection' } ],
	[ 'dns_names', 'number', _('Names from DNS'), _('Pairs of a device and an address whose names from DNS are remembered for ten minutes, to show flows that name no server, a quarter of them for one device at most; 0 is off.'), { from: 0, to: 65536, preset: '2048', tab: 'inspection' } ],
	[ 'reinspect_requests', 'flag', _('Later web requests'), _('Whether later requests on a trusted connection of plain HTTP are inspected like the first; such a connection is offloaded only for the rest of a large transfer.'), { preset: '1', tab: 'inspection' } ],
	[ 'reinspect_percent', 'number', _('Look again, percent'), _('Percent of trusted flows, chosen by lot, that are inspected once more later.'), { from: 0, to: 100, preset: '1', tab: 'inspection' } ],
	[ 'reinspect_after_s', 'number', _('Look again after (s)'), _('Seconds after which those are inspected once more.'), { from: 11, to: 86400, preset: '120', tab: 'inspection' } ],
	[ 'reinspect_mib', 'number', _('Look again after (MiB)'), _('MiB after which any trusted flow is inspected once more; 0 is never.'), { from: 0, to: 1048576, preset: '1024', tab: 'inspection' } ],
	[ 'reinspect_age_s', 'number', _('Look again at the age of (s)'), _('Seconds after which any trusted flow is inspected once more; 0 is never.'), { from: 0, to: 432000, preset: '3600', tab: 'inspection' } ],
	[ 'reinspect_turn_mib', 'number', _('Look again when the traffic turns (MiB)'), _('MiB that a trusted flow sends against the way of its bulk, as when a download becomes an upload, after which it is inspected once more; 0 is never.'), { from: 0, to: 1048576, preset: '4', tab: 'inspection' } ],
	[ 'flows', 'number', _('Connections remembered'), _('Decided flows that are remembered; beyond it the least used is forgotten and inspected again.'), { from: 256, to: 262144, preset: '8192', tab: 'memory' } ],
	[ 'held_flows', 'number', _('Blocked connections remembered'), _('Blocked and limited flows that are remembered beside those; beyond it a new one is blocked by the mark of its connection alone, or not limited.'), { from: 64, to: 65536, preset: '2048', tab: 'memory' } ],
	[ 'idle_tcp_s', 'number', _('Forget idle TCP after (s)'), _('Seconds without a packet after which a TCP flow is forgotten.'), { from: 1, to: 432000, preset: '7440', tab: 'memory' } ],
	[ 'idle_udp_s', 'number', _('Forget idle UDP after (s)'), _('Seconds without a packet after which a UDP flow is forgotten.'), { from: 1, to: 86400, preset: '180', tab: 'memory' } ],
	[ 'block_s', 'number', _('Keep blocked for (s)'), _('Seconds that a blocked flow stays blocked, also after a restart of the agent.'), { from: 1, to: 86400, preset: '3600', tab: 'memory' } ],
	[ 'sweep_s', 'number', _('Search for idle ones every (s)'), _('Seconds between two searches for idle flows.'), { from: 1, to: 3600, preset: '10', tab: 'memory' } ],
	[ 'list_memory_kib', 'number', _('Memory for address lists (KiB)'), _('Memory for blocklists in the kernel, and in the agent for those that observe, in KiB, old and new ones together while they are replaced; 0 is an eighth of the machine\'s, from 2 to 64 MiB.'), { from: 0, to: 1048576, preset: '0', tab: 'memory' } ],
	[ 'domain_memory_kib', 'number', _('Memory for domain lists (KiB)'), _('Memory for domain lists in the agent, in KiB, old and new ones together while they are replaced, and what sorting takes; 0 is an eighth of the machine\'s, from 2 to 64 MiB.'), { from: 0, to: 1048576, preset: '0', tab: 'memory' } ],
	[ 'memory_kib', 'number', _('Memory in all (KiB)'), _('Memory that kernel and agent may take together at most, in KiB, summed up from what the other options allow before any of it is taken; a configuration that could need more is refused with the sum. 0 is three quarters of the machine\'s.'), { from: 0, to: 4194304, preset: '0', tab: 'memory' } ],
	[ 'signature_memory_kib', 'number', _('Memory for rulesets (KiB)'), _('Memory for the rulesets in force in the agent, in KiB; while they are replaced, old and new ones are there, so twice as much. 0 is an eighth of the machine\'s, from 2 to 64 MiB. Rulesets that need more are refused, and those before stay.'), { from: 0, to: 1048576, preset: '0', tab: 'memory' } ],
	[ 'manage_offload', 'word', _('Offload of the firewall'), _('With flow offload in the firewall: hold it back until a flow is trusted, or leave it alone, which blinds inspection.'), { of: 'guard off', preset: 'guard', tab: 'system' } ],
	[ 'offload', 'word', _('Offload of its own'), _('Offload of trusted flows where the firewall has none of its own: none, or a flowtable of Sluice\'s.'), { of: 'none software', preset: 'none', tab: 'system' } ],
	[ 'spread', 'word', _('Use all processors'), _('Whether the shield shares packets out to all processors, by flow: nowhere (off), behind devices with one receive queue and no packet steering (auto), or wherever it can work (on); status says where it does not and why.'), { of: 'off auto on', preset: 'off', tab: 'system' } ],
	[ 'on_crash', 'word', _('After a crash'), _('What a crash of the agent leaves behind: programs with their decisions, or nothing.'), { of: 'keep detach', preset: 'keep', tab: 'system' } ],
	[ 'netfilter', 'word', _('Writer of rules'), _('Who writes the rules that feed the queue; auto takes nft and falls back to iptables.'), { of: 'auto nft iptables', preset: 'auto', tab: 'system' } ],
	[ 'queue', 'number', _('First queue'), _('First queue number.'), { from: 0, to: 65535, preset: '200', tab: 'system' } ],
	[ 'queues', 'number', _('Queues'), _('Queues from that number on; 0 is one for each worker, or four where workers is 0.'), { from: 0, to: 16, preset: '0', tab: 'system' } ],
	[ 'workers', 'number', _('Workers for the queues'), _('Threads that read the queues, no more than there are queues; 0 is as many as processors. More than one pays where one is too slow for what has to be looked at.'), { from: 0, to: 4, preset: '1', tab: 'system' } ],
	[ 'metrics_listen', 'text', _('Figures for Prometheus'), _('Loopback address and port at which Prometheus finds /metrics; without it the agent listens nowhere.'), { tab: 'system' } ],
	[ 'notify_script', 'path', _('Script for notices'), _('Program that is started for each event worth it, with what happened in its environment (SLUICE_KIND, SLUICE_WHAT and more, see events.md), one at a time, for ten seconds at most and without capabilities.'), { tab: 'general' } ],
	[ 'mute', 'words', _('Notices to leave out'), _('Kinds of events that nobody is told of, neither log nor ubus nor notify_script; sluice events has them.'), { of: 'verdict alert attack list health contact', tab: 'general' } ],
	[ 'mark_mask', 'text', _('Bits of the packet mark'), _('Bits of the packet mark and connection mark that belong to Sluice; mwan3 uses 0x3f00 and pbr 0xff0000 unless told otherwise.'), { preset: '0x07000000', tab: 'system' } ],
	[ 'pin_dir', 'path', _('Directory of programs'), _('Directory of programs and maps that outlive the agent, on a BPF file system.'), { preset: '/sys/fs/bpf/sluice', tab: 'system' } ],
	[ 'run_dir', 'path', _('Directory of the socket'), _('Directory of the control socket.'), { preset: '/var/run/sluice', tab: 'system' } ]
],
interface: [
	[ 'device', 'text', _('Device'), _('The device, as ip link shows it.'), { required: true, grid: true } ],
	[ 'role', 'word', _('Side'), _('Towards the household (lan) or the provider (wan).'), { of: 'lan wan', required: true, grid: true } ],
	[ 'policy', 'word', _('While inspection is away'), _('What happens to new flows from and to this interface while the agent cannot look at them: as option policy of the agent says (main), forwarded (open) or dropped (closed); between two interfaces dropped, if one of them is closed.'), { of: 'main open closed', preset: 'main' } ],
	[ 'inspect', 'flag', _('Inspect'), _('Whether new flows that pass here are inspected.'), { preset: '1', grid: true } ],
	[ 'xdp', 'word', _('Shield'), _('Where blocklists and rates work: in the driver (native), behind it (generic), the best that works (auto), or nowhere (off). Cards that run programs hold some listed addresses as well; with hardware, one that does not is reported.'), { of: 'auto hardware native generic off', preset: 'auto' } ],
	[ 'tc', 'flag', _('Fast path'), _('Whether packets of decided flows are marked or dropped here.'), { preset: '1' } ]
],
ddos: [
	[ 'syn_pps', 'number', _('New connections a second'), _('TCP SYN packets a second of one source; they count here instead of in source_pps.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'syn_burst', 'number', _('New connections at once'), _('TCP SYN packets that a quiet source may send at once.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'connections_pm', 'number', _('Connections a minute'), _('TCP connections a minute that one source may open, counted by their SYN packets; other protocols are not counted.'), { from: 0, to: 60000, preset: '0', tab: 'senders' } ],
	[ 'connections_burst', 'number', _('Connections at once'), _('TCP connections that a quiet source may open at once.'), { from: 0, to: 60000, preset: '0', tab: 'senders' } ],
	[ 'source_pps', 'number', _('Packets a second'), _('Packets a second of one source.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'source_burst', 'number', _('Packets at once'), _('Packets that a quiet source may send at once.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'icmp_pps', 'number', _('Pings a second'), _('ICMP and ICMPv6 packets a second of one source; they count here instead of in source_pps.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'icmp_burst', 'number', _('Pings at once'), _('ICMP packets that a quiet source may send at once.'), { from: 0, to: 4000000, preset: '0', tab: 'senders' } ],
	[ 'source_prefix_v6', 'number', _('Size of an IPv6 sender'), _('Leading bits of an IPv6 address that name one source.'), { from: 1, to: 128, preset: '64', tab: 'senders' } ],
	[ 'block_s', 'number', _('Block for (s)'), _('Seconds for which a source is blocked that is over a rate again and again and has proven its address by a completed TCP handshake; 0 is never. Others are only held to the rate.'), { from: 0, to: 86400, preset: '600', tab: 'senders' } ],
	[ 'block_max', 'number', _('Most blocked senders'), _('Most addresses that are blocked so at once.'), { from: 1, to: 4096, preset: '256', tab: 'senders' } ],
	[ 'never_block', 'nets', _('Never block'), _('Addresses and prefixes that are never blocked so, beside this router\'s, its gateways and name servers, option management, everything on the lan and the allowlists.'), { tab: 'senders' } ],
	[ 'scan_ports', 'number', _('Ports of a port scan'), _('Different TCP ports within five minutes that make a source a port scanner, which is told and nothing more; 0 is never.'), { from: 0, to: 12, preset: '10', tab: 'senders' } ],
	[ 'destination_pps', 'number', _('Packets a second'), _('Packets a second to one destination from sources that never completed a handshake.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'destination_burst', 'number', _('Packets at once'), _('Such packets at once after a pause.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'destination_syn_pps', 'number', _('New connections a second'), _('TCP SYN packets a second to one destination from sources that never completed a handshake; they count here instead of in destination_pps.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'destination_syn_burst', 'number', _('New connections at once'), _('Such SYN packets at once after a pause.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'amplification_pps', 'number', _('Answers of amplifiers a second'), _('UDP packets a second to one destination from one well-known port of amplifiers (DNS, NTP, SSDP, memcached and others), whatever their size; fragments have no port and are not counted here.'), { from: 0, to: 4000000, preset: '10000', tab: 'targets' } ],
	[ 'amplification_burst', 'number', _('Answers of amplifiers at once'), _('Such packets at once after a pause.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'syn_validation', 'flag', _('Defend against connection floods'), _('Whether destinations are looked for at which many handshakes wait and few are completed. While one is under attack, SYN packets to it from sources that never completed a handshake are held to attacked_syn_pps; where the kernel can, services of this router and ports that it translates are answered for with SYN cookies instead, and net.netfilter.nf_conntrack_tcp_loose is 0 meanwhile.'), { preset: '0', tab: 'targets' } ],
	[ 'syn_backlog', 'number', _('Waiting handshakes'), _('Handshakes waiting at a destination before it is under attack.'), { from: 8, to: 65536, preset: '64', tab: 'targets' } ],
	[ 'syn_ratio', 'number', _('Waiting to completed'), _('How many times the handshakes that were completed within the last 30 seconds these must be.'), { from: 1, to: 1000, preset: '3', tab: 'targets' } ],
	[ 'attacked_syn_pps', 'number', _('Strangers under attack, a second'), _('TCP SYN packets a second to a destination under attack from sources that never completed a handshake; where destination_syn_pps is less, that counts.'), { from: 1, to: 4000000, preset: '20', tab: 'targets' } ],
	[ 'attacked_syn_burst', 'number', _('Strangers under attack, at once'), _('Such SYN packets at once after a pause.'), { from: 0, to: 4000000, preset: '0', tab: 'targets' } ],
	[ 'martians', 'flag', _('Forged addresses'), _('Whether packets are dropped whose source is this router, loopback, a group, or their own destination.'), { preset: '1', tab: 'checks' } ],
	[ 'tcp_flags', 'flag', _('Malformed TCP'), _('Whether TCP packets are dropped that have no flags, SYN with FIN or RST, or FIN without ACK.'), { preset: '1', tab: 'checks' } ],
	[ 'bogons', 'flag', _('Reserved addresses'), _('Whether sources in reserved ranges, those for documentation and those for benchmarks are dropped.'), { preset: '0', tab: 'checks' } ],
	[ 'private_sources', 'flag', _('Private addresses'), _('Whether private sources are dropped; not in force while a wan interface itself has a private address.'), { preset: '0', tab: 'checks' } ],
	[ 'multicast_exempt', 'flag', _('Spare multicast'), _('Whether packets to multicast and broadcast addresses, such as television, pass without checks and rates.'), { preset: '1', tab: 'checks' } ],
	[ 'bucket_sets', 'number', _('Sets of rates'), _('Sets of four sources or destinations whose rate is known at once, 64 bytes each.'), { from: 64, to: 65536, preset: '4096', tab: 'checks' } ]
],
ignore: [
	[ 'enabled', 'flag', _('Enabled'), _('Whether the section counts.'), { preset: '1', grid: true } ],
	[ 'net', 'nets', _('Addresses'), _('Addresses and prefixes: connections from or to them.'), { grid: true } ],
	[ 'device', 'macs', _('Devices'), _('Hardware addresses: connections that such a device opens.'), { grid: true } ],
	[ 'port', 'list', _('Ports'), _('Ports of the side that is connected to.'), { grid: true } ]
]
});
