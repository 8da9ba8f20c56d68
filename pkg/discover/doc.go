// Package discover keeps the backends of a pool up to date from outside the
// configuration: from the addresses of a DNS name, from its SRV records, or from a
// file that another program writes.
//
// Start at [Group], which runs one source for each pool and is told by
// [Group.Update] which; [Source] is one of them alone, and [Settings] say what it
// asks. A source looks, waits until what it saw is out of date, and looks again; it
// reports a full set of backends, sorted and without doubles, and only when the set
// or its own condition has changed. What the consumer does with a set is its own
// affair: it compares by [Backend.Name], which for DNS is the address, so that a
// backend that stays keeps its sessions and its health.
//
// # When a look fails
//
// A look that fails (no answer in time, SERVFAIL, NXDOMAIN, a file that cannot be
// read or is wrong) and one that finds no backend at all change nothing: the last
// good set stays, for as long as it takes, the report says why, and the source looks
// again after a second, then two, up to every [RetryCeiling]. Before the first good look
// a pool is empty. That is no error of a start: the first report comes when the first
// look has ended, whichever way.
//
// # DNS
//
// The two families of addresses are asked for at the same time and stand by
// themselves. When one answers and the other fails, the last good addresses of the
// failed one stay beside the fresh ones of the other, and the source looks again as
// after a failure, at the latest when the fresh ones are out of date. An answer without records, beside records of the other family, is
// an answer: the family is gone. Once one family has answered, the other has
// [FamilyGrace] left, so that a server that drops the questions it does not know
// delays no start.
//
// An answer counts until the shortest TTL in it has passed, aliases included, but
// for [TTLFloor] at least and for [TTLCeiling] at most. /etc/resolv.conf and /etc/hosts are
// read at every look, and hold: search, ndots, timeout, attempts and rotate as in
// resolv.conf(5); a name of a dns source that stands in /etc/hosts is not asked for.
// [Settings.Resolvers] replace its nameserver lines alone. The search goes on to the
// next candidate only when one does not exist or has no addresses: a candidate that
// fails fails the look, as the next one may be somebody else.
//
// Of SRV records (RFC 2782) each priority in use is a tier, the lowest value tier 0.
// Weights up to 256 are taken as they are; where a tier has a larger one, all of the
// tier are scaled down so that it becomes 256; what is then 0 becomes 1. Every
// address of a target is a backend of the record's weight. Addresses come from the
// additional section when it has some for every target, else by further questions.
// A target "." says that there is no such service: an answer without backends.
//
// Questions go over UDP with an EDNS0 size of 1232 bytes (the DNS Flag Day 2020's),
// each from a port of its own and with a random ID; answers that do not match are
// passed over. A truncated answer is asked for again over TCP.
//
// # Files
//
// A file is a JSON list of backends, each a string, or an object with the keys of a
// backend in the configuration, by the same rules:
//
//	["10.0.1.5:8080", {"address": "10.0.1.6:8080", "name": "b2", "weight": 2, "backup": true, "max_connections": 500}]
//
// It has at most [MaxFileSize] bytes and [MaxBackends] entries. It is read when its
// directory, or the one a symbolic link leads to, shows a change (so a file renamed
// into place is seen, as is a mounted ConfigMap that swaps its links), and every
// [FilePoll] whatever happens. A file that is half written, wrong or empty changes
// nothing, and the report says where and what. Write it to another name and rename.
//
// The package never resolves or dials on behalf of a connection, knows no pool's
// policy, and does not log.
package discover
