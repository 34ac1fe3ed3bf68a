package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// A supervisor that start made listens on a unix socket, so that what must not
// let go of the lock, a restart say, is done by the one that holds it. A client
// sends one request and gets one answer, each a JSON object in a line;
// docs/control.md documents them.

const controlVersion = 1

// request is what a client asks of a supervisor.
type request struct {
	Version  int      `json:"lockrun"`
	Do       string   `json:"do"`
	Schedule string   `json:"schedule,omitempty"`
	Command  []string `json:"command,omitempty"`
	Base64   [][]byte `json:"command_base64,omitempty"` // if it is not UTF-8, which JSON has to be

	schedule pidfile.Schedule
	answered chan answer   // takes one without blocking
	done     chan struct{} // closed when the answer was sent, or nobody waits for it
}

// What a request can ask for.
const (
	doState   = "state"   // what runs
	doReady   = "ready"   // the same, as soon as the command runs
	doStop    = "stop"    // end the command and free the lock
	doRestart = "restart" // end the command and start it again, or another one, under the same lock
)

// answer is what a supervisor answers: an error, with the exit status for it, or
// what it knows.
type answer struct {
	Version    int      `json:"lockrun"`
	Error      string   `json:"error,omitempty"`
	Status     int      `json:"status,omitempty"`
	State      string   `json:"state,omitempty"`
	Supervisor int      `json:"supervisor,omitempty"`
	PID        int      `json:"pid,omitempty"`
	Command    []string `json:"command,omitempty"`
	Message    string   `json:"message,omitempty"` // what the command says of itself
}

func (r *request) answer(a answer) { r.answered <- a }

func (r *request) refuse(status int, format string, args ...any) {
	r.answer(answer{Error: fmt.Sprintf(format, args...), Status: status})
}

// gone reports that nobody waits for the answer any more.
func (r *request) gone() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Limits that keep garbage, slow and silent peers from harming a supervisor.
const (
	maxRequest    = 256 << 10       // bytes of a request, its newline included
	peerPatience  = 2 * time.Second // for the whole request, and for the answer to be taken
	maxAskers     = 64              // peers that have not sent their request; for one more the first is hung up on
	maxWaiters    = 512             // peers that wait for their answer; one more is refused
	maxReadyPeers = 64              // those of them that wait for readiness, which may never come
)

// control is the socket of a supervisor. A nil *control hears nobody.
type control struct {
	listener *net.UnixListener
	path     string
	file     fs.FileInfo // of path
	inbox    chan *request
	closed   chan struct{}
	closing  sync.Once

	mu      sync.Mutex
	askers  []*net.UnixConn // have not sent their request yet
	waiters int             // wait for their answer
}

// requests is where requests come from.
func (c *control) requests() <-chan *request {
	if c == nil {
		return nil
	}
	return c.inbox
}

// close removes the socket. It comes before the lock is let go of: after that,
// the name may be that of the next supervisor's socket. If the lock file was
// replaced it may be so before.
func (c *control) close() {
	if c == nil {
		return
	}
	c.closing.Do(func() {
		if now, err := os.Lstat(c.path); err == nil && os.SameFile(now, c.file) {
			os.Remove(c.path)
		}
		close(c.closed)
		c.listener.Close()
	})
}

func (c *control) serve() {
	for {
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors are left
			time.Sleep(100 * time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.askers = append(c.askers, conn)
		if len(c.askers) > maxAskers {
			c.askers[0].Close()
			c.askers = c.askers[1:]
		}
		c.mu.Unlock()
		go func() {
			defer conn.Close()
			c.converse(conn)
		}()
	}
}

// asked takes note that a peer has sent its request, and reports whether there is
// room for one more that waits.
func (c *control) asked(conn *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.askers = slices.DeleteFunc(c.askers, func(a *net.UnixConn) bool { return a == conn })
	c.waiters++
	return c.waiters <= maxWaiters
}

func (c *control) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters--
}

// converse reads one request and sends its answer. If the supervisor ends
// without an answer the connection is closed.
func (c *control) converse(conn *net.UnixConn) {
	conn.SetDeadline(time.Now().Add(peerPatience))
	r := request{answered: make(chan answer, 1), done: make(chan struct{})}
	defer close(r.done)
	err := r.receive(conn)
	room := c.asked(conn)
	defer c.answered()
	switch {
	case errors.As(err, new(*os.SyscallError)):
		r.refuse(exitSystem, "%v", err)
	case err != nil:
		r.refuse(exitUsage, "%v", err)
	case !room:
		r.refuse(exitSystem, "%d others wait for an answer already", maxWaiters)
	default:
		select {
		case c.inbox <- &r:
		case <-c.closed:
			return
		}
	}
	hungUp := make(chan struct{})
	go func() {
		conn.SetReadDeadline(time.Time{})
		io.Copy(io.Discard, conn)
		// The end of what it sends may mean that it only listens from now on.
		for !hungUpOn(conn) {
			select {
			case <-r.done:
				return
			case <-time.After(time.Second):
			}
		}
		close(hungUp)
	}()
	select {
	case a := <-r.answered:
		a.send(conn)
	case <-hungUp:
	case <-c.closed:
		// It may have been answered at the same time.
		select {
		case a := <-r.answered:
			a.send(conn)
		case <-time.After(peerPatience):
		}
	}
}

// receive reads a request from a peer that may make one.
func (r *request) receive(conn *net.UnixConn) error {
	peer, err := peerOf(conn)
	if err != nil {
		return err
	}
	if peer.uid != 0 && peer.uid != os.Geteuid() {
		return fmt.Errorf("user %d may not control this supervisor", peer.uid)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	switch {
	case len(line) == maxRequest:
		return fmt.Errorf("the request is longer than %d bytes", maxRequest)
	case err != nil:
		return errors.New("the request does not end with a newline")
	}
	return r.decode(line)
}

// encode is what decode understands. Each word counts for itself: two that are
// broken can be UTF-8 together.
func (r request) encode() ([]byte, error) {
	r.Version = controlVersion
	if slices.ContainsFunc(r.Command, func(word string) bool { return !utf8.ValidString(word) }) {
		for _, word := range r.Command {
			r.Base64 = append(r.Base64, []byte(word))
		}
		r.Command = nil
	}
	return json.Marshal(r)
}

// decode reads a request that this supervisor understands.
func (r *request) decode(line []byte) error {
	if err := json.Unmarshal(line, r); err != nil {
		return fmt.Errorf("the request is not understood: %v", err)
	}
	if r.Version != controlVersion {
		return fmt.Errorf("the request is of version %d; this supervisor speaks %d", r.Version, controlVersion)
	}
	for _, word := range r.Base64 {
		r.Command = append(r.Command, string(word))
	}
	r.Base64 = nil
	for _, word := range r.Command {
		if strings.Contains(word, "\x00") {
			return errors.New("the command has a NUL")
		}
	}
	return nil
}

func (a answer) send(conn *net.UnixConn) {
	a.Version = controlVersion
	line, err := json.Marshal(a)
	if err == nil {
		conn.SetWriteDeadline(time.Now().Add(peerPatience))
		conn.Write(append(line, '\n'))
	}
}

// peer is the process at the other end of a connection.
type peer struct{ pid, uid int }

// controlPath is where the supervisor of a lock has its socket, if its instance
// directory is dir: NAME.sock, or, since paths are long and have slashes, a hash
// of the path without symbolic links.
func (n lockName) controlPath(dir string) (string, error) {
	if n.named {
		return filepath.Join(dir, n.given+".sock"), nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(n.path))
	if err != nil {
		return "", err
	}
	hash := fnv.New128a()
	io.WriteString(hash, filepath.Join(parent, filepath.Base(n.path)))
	return filepath.Join(dir, fmt.Sprintf(".path-%x.sock", hash.Sum(nil))), nil
}

// errNoSupervisor says that the lock has no supervisor that answers.
var errNoSupervisor = errors.New("has no supervisor that could be asked")

// supervisionRefused is a supervisor's error.
type supervisionRefused struct {
	status int
	text   string
}

func (e *supervisionRefused) Error() string { return e.text }

// askInstance sends a request to the supervisor of an instance. The error is
// pidfile.ErrNotRunning if nobody holds its lock, errNoSupervisor if somebody
// does who can't be asked, *supervisionRefused, or the context's.
//
// A supervisor makes its socket after it has taken the lock, and before it
// records a PID; and it removes the socket after it has reaped the process that
// is recorded, and before it lets go of the lock. So the lack of a socket means
// that there is no supervisor if one and the same process was the recorded holder
// before and after the socket was looked for. Else it is looked for again.
func askInstance(ctx context.Context, name lockName, r request) (answer, error) {
	f, err := lock.Open(name.path)
	if errors.Is(err, fs.ErrNotExist) {
		return answer{}, pidfile.ErrNotRunning
	}
	if err != nil {
		return answer{}, err
	}
	defer f.Close()
	var holder lock.Holder // who was seen before
	var since time.Time
	for {
		in, err := lock.InspectFile(f)
		switch {
		case err != nil:
			return answer{}, err
		case in.State == lock.Free:
			return answer{}, pidfile.ErrNotRunning
		}
		if since.IsZero() || in.Holder.PID != holder.PID || in.Holder.Recorded != holder.Recorded {
			holder, since = in.Holder, time.Now()
		} else if holder.Recorded || time.Since(since) > transient(holder, r.Do) {
			return answer{}, errNoSupervisor
		}
		if r.Do != doReady && hangs(ctx, name, f) {
			return answer{}, errNoSupervisor
		}
		a, err := askSupervisor(ctx, name, f, r)
		var refused *supervisionRefused
		switch {
		case errors.Is(err, errNoSupervisor):
		case errors.As(err, &refused) && refused.status == exitStatusNone:
			// It has ended before it could do it.
			since = time.Time{}
		default:
			return a, err
		}
		if !holder.Recorded {
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return answer{}, err
			}
		}
	}
}

// transient is how long a holder that is not recorded may be a supervisor that
// has taken the lock just now, or is about to let go of it. Stop has another way
// than to ask him; it waits only for one that was just started, and would die of
// the signal instead of passing it on.
func transient(h lock.Holder, do string) time.Duration {
	const long = 2 * time.Second
	isLockrun := len(h.Args) > 0 && filepath.Base(h.Args[0]) == filepath.Base(os.Args[0])
	switch {
	case isLockrun && (do != doStop || time.Since(h.Started) < long):
		return long
	case h.PID == 0 && do != doStop:
		return time.Second
	}
	return 20 * time.Millisecond
}

// hangs reports whether there is a supervisor that does not answer soon. One that
// was stopped must not be relied on for what takes its time.
func hangs(ctx context.Context, name lockName, f *os.File) bool {
	soon, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	askSupervisor(soon, name, f, request{Do: doState})
	return soon.Err() != nil && ctx.Err() == nil
}

// askSupervisor sends a request to the supervisor that holds the lock on f, and
// waits for its answer as long as ctx allows. The error is errNoSupervisor if
// there is none, or if it ended before it answered, and a *supervisionRefused if
// it refused.
func askSupervisor(ctx context.Context, name lockName, f *os.File, r request) (answer, error) {
	conn, pid, err := dialSupervisor(ctx, name, f)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	line, err := r.encode()
	if err != nil {
		return answer{}, err
	}
	if len(line) >= maxRequest {
		return answer{}, &supervisionRefused{exitUsage, fmt.Sprintf("the command line is longer than %d bytes", maxRequest-256)}
	}
	// If it is refused before it was read the answer is there all the same.
	conn.Write(append(line, '\n'))
	var a answer
	if err := json.NewDecoder(io.LimitReader(conn, 4*maxRequest)).Decode(&a); err != nil {
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		return answer{}, errNoSupervisor
	}
	if a.Supervisor != pid {
		// It is in another PID namespace, where numbers mean other processes.
		a.Supervisor, a.PID = pid, 0
	}
	if a.Error != "" {
		return a, &supervisionRefused{a.Status, a.Error}
	}
	if r.Do == doStop {
		// It can be another user's program, which says what it likes.
		if still, _ := lock.Carries(pid, f); still {
			return answer{}, errNoSupervisor
		}
	}
	return a, nil
}

// dialSupervisor connects to the supervisor that holds the lock on f, and returns
// its PID. That it holds it is proven: another process is not spoken to.
func dialSupervisor(ctx context.Context, name lockName, f *os.File) (conn *net.UnixConn, pid int, err error) {
	dirs := []string{filepath.Dir(name.path)}
	if !name.named {
		// The supervisor has the instance directory of its own user.
		locked, err := f.Stat()
		if err != nil {
			return nil, 0, err
		}
		owner := int(locked.Sys().(*syscall.Stat_t).Uid)
		dirs = slices.Compact([]string{instanceDir(), defaultInstanceDir(owner)})
	}
	for _, dir := range dirs {
		path, err := name.controlPath(dir)
		if err != nil {
			break
		}
		conn, err := dialUnix(ctx, path)
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if err != nil {
			continue
		}
		if peer, err := peerOf(conn); err == nil {
			if ok, err := lock.Carries(peer.pid, f); ok && err == nil {
				return conn, peer.pid, nil
			}
		}
		conn.Close()
	}
	return nil, 0, errNoSupervisor
}

// shortenPath calls do with a path to the same file that fits into the address
// of a socket (108 bytes with its NUL, unix(7)).
func shortenPath(path string, do func(path string) error) error {
	const most = 107
	if len(path) <= most {
		return do(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if _, err := os.Stat(strings.TrimSuffix(short, filepath.Base(path))); err != nil || len(short) > most {
		return fmt.Errorf("%s is too long for the address of a socket", path)
	}
	return do(short)
}
