// SPDX-License-Identifier: Apache-2.0 OR MIT
'use strict';
'require baseclass';
'require poll';
'require rpc';

/* Everything that these pages ask the router for. Nobody else calls it. */

/* Seconds between two looks. */
var PACE = 5;

function read(method, params) {
	return rpc.declare({ object: 'sluice', method: method, params: params, reject: true });
}

/* Without `expect` and `reject`: both would hide why the router refuses. */
function change(method, params) {
	return rpc.declare({ object: 'sluice', method: method, params: params });
}

var reads = {
	status: read('status'),
	flows: read('flows', [ 'offset', 'limit' ]),
	devices: read('devices', [ 'offset', 'limit' ]),
	events: read('events', [ 'offset', 'limit', 'kinds', 'severity', 'archived' ]),
	why: read('why', [ 'subject' ])
};

var changes = {
	allow: change('allow', [ 'subject', 'device', 'seconds' ]),
	deny: change('deny', [ 'subject', 'device', 'seconds' ]),
	block: change('block', [ 'subject', 'seconds' ]),
	unblock: change('unblock', [ 'subject' ]),
	forget: change('forget', [ 'section' ]),
	pause: change('pause', [ 'device', 'seconds' ]),
	resume: change('resume', [ 'device' ]),
	limit: change('limit', [ 'device', 'kbit', 'seconds' ]),
	rename: change('rename', [ 'device', 'name' ]),
	archive: change('archive', [ 'id', 'kind', 'until' ]),
	mute: change('mute', [ 'kind' ]),
	unmute: change('unmute', [ 'kind' ])
};

var hints = rpc.declare({ object: 'luci-rpc', method: 'getHostHints', expect: { '': {} } });

/* What the session may do and the agent can, once known. */
var offered = null;

/* Why there is no answer: `stopped`, `denied`, or `silent`. */
function kind(error) {
	var text = String(error && error.message || error);
	if (/-32000\b|ubus code 4\b/.test(text))
		return 'stopped';
	return /-32002\b|ubus code 6\b/.test(text) ? 'denied' : 'silent';
}

return baseclass.extend({
	/* Calls a method that reads; the promise fails with one of the words of `kind`. */
	ask: function(method) {
		var args = Array.prototype.slice.call(arguments, 1);
		return reads[method].apply(null, args).then(function(answer) {
			return L.isObject(answer) ? answer : Promise.reject('silent');
		}, function(error) {
			return Promise.reject(kind(error));
		});
	},

	/* Calls a method that changes something; the promise fails with words for people. */
	tell: function(method) {
		var args = Array.prototype.slice.call(arguments, 1);
		return changes[method].apply(null, args).then(function(answer) {
			if (L.isObject(answer))
				return answer.error ? Promise.reject(String(answer.error)) : answer;
			if (answer == null || answer === 0)
				return {};
			return Promise.reject(rpc.getStatusText(answer));
		}, function(error) {
			return Promise.reject(kind(error) == 'denied'
				? _('This session may not change anything.') : _('The router did not answer.'));
		});
	},

	/* Finds out which changes can be offered: those that the agent has and the session may make. */
	learn: function() {
		if (offered)
			return Promise.resolve(offered);
		return L.resolveDefault(rpc.list('sluice'), {}).then(function(objects) {
			var methods = objects && objects.sluice;
			if (!L.isObject(methods))
				return {};
			offered = {};
			for (var name in changes)
				offered[name] = !!methods[name] && L.hasViewPermission() === true;
			return offered;
		});
	},

	can: function(method) {
		return !!(offered && offered[method]);
	},

	/* Names that devices gave themselves, by address. */
	names: function() {
		return L.resolveDefault(hints(), {}).then(function(found) {
			var names = {};
			for (var mac in found) {
				var name = found[mac] && found[mac].name;
				var addresses = found[mac] && L.toArray(found[mac].ipaddrs).concat(L.toArray(found[mac].ip6addrs));
				if (name)
					addresses.forEach(function(address) { names[address] = String(name); });
			}
			return names;
		});
	},

	/*
	 * Asks again and again while the page can be seen, one question at a time. Gives a function that
	 * asks at once, behind what is under way.
	 */
	watch: function(question, show) {
		var running = null;
		var look = function() {
			if (!running)
				running = question().then(
					function(answer) { show(answer, null); },
					function(why) { show(null, why); }
				).finally(function() { running = null; });
			return running;
		};
		poll.add(function() { return document.hidden ? Promise.resolve() : look(); }, PACE);
		document.addEventListener('visibilitychange', function() {
			if (!document.hidden)
				look();
		});
		return function now() { return running ? running.then(now) : look(); };
	},

	PACE: PACE
});
