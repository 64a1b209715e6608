// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';

/* What the agent calls things, in plain words. A word that is not known is shown as it is. */

var drops = {
	address: _('Addresses that were blocked by hand or automatically'),
	prefix: _('Networks that were blocked by hand or automatically'),
	listed: _('Addresses on your blocklists'),
	source_rate: _('Senders that sent too much'),
	syn_rate: _('Senders that opened connections too fast'),
	bogon: _('Addresses that do not exist on the internet'),
	'private': _('Private addresses that came from the internet'),
	martian: _('Forged addresses'),
	tcp_flags: _('Malformed packets'),
	icmp_rate: _('Pings and other control messages beyond the limit'),
	amplification: _('Floods of answers that nobody asked for'),
	destination_rate: _('Too much for one of your addresses'),
	destination_syn: _('Too many new connections to one of your addresses'),
	connection_rate: _('Senders that opened too many connections'),
	flow_blocked: _('Blocked connections, incoming packets'),
	flow_blocked_out: _('Blocked connections, outgoing packets'),
	flow_limited: _('Connections over their speed limit'),
	connection_blocked: _('Blocked connections, by their mark'),
	verdict_blocked: _('Blocked connections, first packets'),
	undecided: _('Connections that could not be understood'),
	queue_full: _('Inspection was too busy'),
	attacked_syn: _('New connections from strangers during an attack'),
	queue_share: _('More for inspection than a device may send')
};

var reasons = {
	window_end: _('nothing to object to'),
	hello_clean: _('no rule and no list names it'),
	request_clean: _('no rule and no list names it'),
	domain_rule: _('a rule about its name'),
	domain_allowed: _('a rule allows its name'),
	domain_list: _('its name is on a list'),
	rule: _('a rule'),
	rule_allowed: _('a rule allows it'),
	signature: _('a signature of a ruleset')
};

var verdicts = {
	trusted: _('Passed'),
	blocked: _('Blocked'),
	limited: _('Slowed'),
	inspect: _('Looking'),
	unknown: _('Unknown')
};

var states = {
	active: _('Works'),
	degraded: _('Works in part'),
	failed: _('Does not work'),
	starting: _('Starting'),
	off: _('Off')
};

/* Kinds of events. */
var kinds = {
	verdict: _('Blocked connection'),
	alert: _('Signature'),
	attack: _('Attack'),
	list: _('Lists'),
	health: _('Protection'),
	contact: _('Listed address')
};

var severities = {
	info: _('as you wanted it'),
	notice: _('for your information'),
	warning: _('have a look'),
	error: _('does not work')
};

var sources = {
	tls: _('named by the connection'),
	quic: _('named by the connection'),
	http: _('named by the request'),
	dns: _('looked up before'),
	ptr: _('name of the address')
};

/* Features, by the first word or words of their name. */
var features = [
	[ 'shield ', _('Shield on %s'), _('Drops listed and flooding addresses as soon as they arrive.') ],
	[ 'fast path ', _('Fast path on %s'), _('Lets what is decided pass without another look.') ],
	[ 'spread ', _('Sharing of work on %s'), _('Uses all processors of the router.') ],
	[ 'inspection', _('Inspection'), _('Looks at the first packets of every new connection.') ],
	[ 'flow offload', _('Offload'), _('Takes trusted connections past the firewall.') ],
	[ 'device names', _('Names of devices'), _('Shows what your devices call themselves.') ],
	[ 'names from DNS', _('Names from DNS'), _('Shows names for connections that tell none.') ],
	[ 'syn validation', _('Defence against connection floods'), _('Answers strangers itself while a service is under attack.') ],
	[ 'ubus', _('Connection to this page'), _('Answers these pages and other programs of the router.') ],
	[ 'notify_script', _('Script for notices'), _('Is started for each event worth it.') ],
	[ 'maps', _('Memory in the kernel'), _('Tables of addresses and connections.') ],
	[ 'programs', _('Programs in the kernel'), _('Without them nothing is dropped early.') ]
];

function word(table, key) {
	return Object.prototype.hasOwnProperty.call(table, key) ? table[key] : String(key);
}

return baseclass.extend({
	drop: function(reason) { return word(drops, reason); },
	reason: function(reason) { return word(reasons, reason); },
	verdict: function(verdict) { return word(verdicts, verdict); },
	state: function(state) { return word(states, state); },
	kind: function(kind) { return word(kinds, kind); },
	kinds: Object.keys(kinds),
	severity: function(severity) { return word(severities, severity); },
	source: function(source) { return word(sources, source); },

	/* Title of a feature and what it is for. */
	feature: function(name) {
		name = String(name);
		for (var i = 0; i < features.length; i++)
			if (name.indexOf(features[i][0]) == 0)
				return [ features[i][1].replace('%s', function() { return name.slice(features[i][0].length); }), features[i][2] ];
		return [ name, '' ];
	},

	/* Why nobody answers, and what can be done. */
	absence: function(why) {
		switch (why) {
		case 'stopped':
			return [ _('Sluice is not running'),
				_('Nothing is inspected. Start it under System, Startup, or with “service sluice start”; the system log says why it ended.') ];
		case 'denied':
			return [ _('Not for this session'),
				_('This login may not read what Sluice reports. Log in again after an update of the package, or ask who runs the router.') ];
		default:
			return [ _('No answer'),
				_('The router does not answer at the moment. This page goes on asking.') ];
		}
	},

	/* How a status is to be taken: class, headline, and why. */
	headline: function(status) {
		var not = function(state) {
			return (status.features || []).filter(function(feature) { return feature.state == state; })
				.map(function(feature) { return this.feature(feature.name)[0]; }, this).join(', ');
		}.bind(this);
		switch (status.state) {
		case 'active':
			return [ 'good', _('Protected'), _('Everything that is switched on works.') ];
		case 'degraded':
			return [ 'good', _('Protected'), _('Works in part: %s.').replace('%s', function() { return not('degraded'); }) ];
		case 'failed':
			return [ 'bad', _('Not fully protected'), _('Does not work: %s.').replace('%s', function() { return not('failed'); }) ];
		case 'starting':
			return [ 'fair', _('Starting'), _('Protection is being set up.') ];
		default:
			return [ 'bad', _('Switched off'), _('Everything passes. Switch it on under Settings.') ];
		}
	}
});
