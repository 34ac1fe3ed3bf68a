// Package lock takes advisory locks on files and can say who holds one.
//
// A lock is flock(2)'s: it excludes every other program that calls flock(2) on
// the same file, among them flock(1), and it is gone when the last process that
// shares it is gone, by whatever death. There is no stale lock.
//
// # What is added to flock(2)
//
//   - A lock is on the file that the path names, not on a file that somebody
//     deleted meanwhile: after every lock the path is looked at again (see
//     acquire.go for the race).
//   - On Linux, deleting the lock file does not let a second holder in: whoever
//     has to create the file first looks for a process that still holds a
//     deleted one of that name.
//   - A refusal says who holds the lock, proven by the kernel's own record of
//     that process's locks and not by a number in a file.
//   - A wait ends with its context, costs no CPU, and stands in the kernel's
//     queue. (Linux. Elsewhere it asks again every 1 to 25 ms, and so can be
//     overtaken by those who block.)
//   - Symbolic links are not followed, FIFOs and sockets are refused.
//
// # What is not promised
//
//   - A lock file that is renamed or replaced under its holder is not seen by
//     the next one to come; use [Lock.Verify] to notice it.
//   - A deleted file's holder is found only when /proc shows it: a process of
//     one's own user (of any, for root), in the same PID namespace, by the same
//     path.
//   - Over NFS, flock(2) is what the mount makes of it (flock(2), NFS details).
//     Two containers that see one file through two overlays do not exclude
//     each other.
//   - flock(2) locks and fcntl(2) locks do not see each other on Linux.
//   - Whoever may read the file may lock it (flock(2) needs no write access),
//     so files are created with mode 0600.
//
// Do not use a lock where the thing itself can refuse: a listening socket or
// a unique key in a database already excludes a second owner.
package lock
