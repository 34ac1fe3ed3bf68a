package pidfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/lockrun/lockrun/internal/pidtext"
	"github.com/lockrun/lockrun/lock"
)

var (
	// ErrNotPIDFile says that a file is not ours to write: it holds something
	// else than one number and white space, has a second hard link, or is not
	// a regular file. It is left as it was.
	ErrNotPIDFile = errors.New("not a PID file")

	// ErrDirectory and ErrDevice are ErrNotPIDFile too. Such a thing can be
	// locked (lock.TryAcquire), but nothing is written into it.
	ErrDirectory error = kindError("a directory")
	ErrDevice    error = kindError("a device")

	// ErrOwner says that a file or directory belongs to another user than
	// ourselves or root, who could write any PID into it or put another one in
	// its place.
	ErrOwner = errors.New("belongs to another user")

	// ErrWritable says that everybody may write into a file whose number was to
	// be believed.
	ErrWritable = errors.New("may be written by everybody")
)

// kindError is ErrNotPIDFile for a thing of another kind.
type kindError string

func (e kindError) Error() string { return string(e) + ": " + ErrNotPIDFile.Error() }
func (e kindError) Unwrap() error { return ErrNotPIDFile }

// Options are the details of a PID file. A nil *Options means the zero value.
type Options struct {
	// Mode is the permission of the file if it has to be created, whatever the
	// umask. Zero means 0600; who may read the file may lock it (see
	// lock.Options).
	Mode fs.FileMode

	// Keep makes Close empty the file instead of removing it: for a file that
	// flock(1) waits for too.
	Keep bool
}

// File is a held PID file: its lock, and the right to write a PID into it.
// There is one as long as the lock is held.
type File struct {
	lock *lock.Lock
	keep bool

	mu      sync.Mutex
	file    *os.File // a second description; the locked one can't be written
	before  []byte   // what stands in it
	written bool     // by us
	removed bool     // or emptied
}

// Hold takes the lock on the PID file path, or refuses at once, and writes the
// PID of this process into it. The errors are those of TryOpen and of Write.
func Hold(path string, opt *Options) (*File, error) {
	f, err := TryOpen(path, opt)
	if err != nil {
		return nil, err
	}
	if err := f.Write(os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// TryOpen takes the lock on the PID file path, or refuses at once. The file is
// not written yet.
//
// If it is held the error is a *lock.HeldError (errors.Is lock.ErrHeld), which
// names the holder. A file that is not a PID file or not ours is ErrNotPIDFile
// or ErrOwner in a *fs.PathError. The rest is as for lock.TryAcquire.
func TryOpen(path string, opt *Options) (*File, error) {
	if opt == nil {
		opt = &Options{}
	}
	return open(opt, func() (*lock.Lock, error) {
		return lock.TryAcquire(path, &lock.Options{Mode: opt.Mode})
	})
}

// Open is TryOpen, but waits for the lock as long as ctx allows (see
// lock.Acquire). It does not wait for a file that it would not write.
func Open(ctx context.Context, path string, opt *Options) (*File, error) {
	if opt == nil {
		opt = &Options{}
	}
	f, err := openForLook(path)
	if err == nil {
		err = check(f)
		f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return open(opt, func() (*lock.Lock, error) {
		return lock.Acquire(ctx, path, &lock.Options{Mode: opt.Mode})
	})
}

// open makes a File of the lock that acquire takes. If the file is deleted
// before it could be opened for writing, it starts afresh.
func open(opt *Options, acquire func() (*lock.Lock, error)) (*File, error) {
	for {
		l, err := acquire()
		if err != nil {
			return nil, err
		}
		file, before, err := openLocked(l)
		if err == nil {
			return &File{lock: l, keep: opt.Keep, file: file, before: before}, nil
		}
		if l.Created() {
			l.Remove()
		}
		l.Release()
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, lock.ErrMoved) {
			return nil, err
		}
	}
}

func openLocked(l *lock.Lock) (*os.File, []byte, error) {
	if err := checkFile(l.Path(), l.Info()); err != nil {
		return nil, nil, err
	}
	file, err := l.OpenFile(os.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	before, err := checkContent(file)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, before, nil
}

// check returns why a PID file may not be written, nil if it may. It is opened
// for reading only.
func check(f *os.File) error {
	file, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkFile(f.Name(), file); err != nil {
		return err
	}
	_, err = checkContent(f)
	return err
}

func checkFile(path string, file fs.FileInfo) error {
	err := kindOf(file)
	switch uid, links := owner(file); {
	case uid != 0 && uid != os.Geteuid():
		err = fmt.Errorf("%w: uid %d", ErrOwner, uid)
	case err != nil:
	case links > 1:
		err = fmt.Errorf("%d hard links: %w", links, ErrNotPIDFile)
	default:
		return nil
	}
	return pathError(path, err)
}

// checkContent returns what stands in the file, if it is a PID or nothing. It
// reads one byte more than a PID file can have, at most.
//
// Somebody who does not hold the lock may read while the holder writes, and see
// the beginning of the new number and the end of the old one. So what is not a
// PID is read again for 10 ms.
func checkContent(f *os.File) ([]byte, error) {
	content := make([]byte, pidtext.MaxSize+1)
	for try := 0; ; try++ {
		n, err := f.ReadAt(content, 0)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if _, ok := pidtext.Parse(content[:n]); ok {
			return content[:n], nil
		}
		if try == 10 {
			return nil, pathError(f.Name(), fmt.Errorf("holds something else than a PID: %w", ErrNotPIDFile))
		}
		time.Sleep(time.Millisecond)
	}
}

func pathError(path string, err error) error {
	return &fs.PathError{Op: "pidfile", Path: path, Err: err}
}

// Path returns the absolute path of the file.
func (f *File) Path() string { return f.lock.Path() }

// Lock returns the lock on the file, to hand it to a child or to verify it. Do
// not release it; use Close.
func (f *File) Lock() *lock.Lock { return f.lock }

// Write writes pid into the file, as "PID\n". It may be called again, say with
// the PID of a command that was started. On an error, such as a full disk, the
// file holds what it held before.
func (f *File) Write(pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil || f.removed {
		return pathError(f.Path(), fs.ErrClosed)
	}
	content := pidtext.Format(pid)
	if err := f.replace(content); err != nil {
		// The beginning of the new number may stand there. The old one fits,
		// having been there; cut first, since what is left is then a number in
		// between too.
		f.file.Truncate(int64(len(f.before)))
		f.file.WriteAt(f.before, 0)
		return err
	}
	f.before, f.written = content, true
	return nil
}

// replace writes in place, and with one write all of the length that stands
// there: a full disk is noticed before anything is lost, and who reads, or finds
// what a SIGKILL between the two calls left behind, finds one PID and white
// space. There is nothing to cut in most cases, and to cut is dear: it can take
// longer than all the rest.
func (f *File) replace(content []byte) error {
	padded := content
	if pad := len(f.before) - len(content); pad > 0 {
		padded = append(bytes.Clone(content), bytes.Repeat([]byte("\n"), pad)...)
	}
	if _, err := f.file.WriteAt(padded, 0); err != nil || len(padded) == len(content) {
		return err
	}
	return f.file.Truncate(int64(len(content)))
}

// Close removes the file (or empties it, see Options.Keep) while the lock is
// still held, and then gives the lock up: it is free even if other processes
// have the descriptor still. The file is touched only if the path still names
// it; if not, the error is lock.ErrMoved, and the lock is released all the same.
// A file in which no PID was written is left as it was found: removed if opening
// it created it, else not touched. A second Close is fs.ErrClosed.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return pathError(f.Path(), fs.ErrClosed)
	}
	err := errors.Join(f.remove(), f.file.Close(), f.lock.Release())
	f.file = nil
	return err
}

// Remove does to the file what Close does, and keeps the lock: until Close, or
// until the process has ended. It is for a clean-up while other goroutines
// still work, as on a signal and on a panic: after Close the next instance
// could start beside them. On Linux that one is refused as long as the process
// lives; elsewhere only if Options.Keep left the file where it is. The errors
// are those of Close. After a nil error a second Remove does nothing, and Write
// is fs.ErrClosed.
func (f *File) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return pathError(f.Path(), fs.ErrClosed)
	}
	return f.remove()
}

// Clear empties the file, if it was written and the path still names it (else the
// error is lock.ErrMoved). The lock is kept: it is for a lock that outlives the
// process whose PID stands there.
func (f *File) Clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil || f.removed {
		return pathError(f.Path(), fs.ErrClosed)
	}
	if !f.written {
		return nil
	}
	err := f.lock.Verify()
	if err == nil {
		err = f.file.Truncate(0)
	}
	if err == nil {
		f.before = nil
	}
	return err
}

// remove removes or empties the file, once.
func (f *File) remove() error {
	if f.removed {
		return nil
	}
	var err error
	switch {
	case !f.written && !f.lock.Created():
	case f.written && f.keep:
		if err = f.lock.Verify(); err == nil {
			err = f.file.Truncate(0)
		}
	default:
		err = f.lock.Remove()
		if errors.Is(err, fs.ErrPermission) {
			// The directory is not writable any more: privileges were dropped.
			err = f.file.Truncate(0)
		}
	}
	f.removed = err == nil
	return err
}

// Read returns the PID that stands in the file path. Whether that process runs,
// or is the one that the file means, is not known from that: see Inspect. The
// error is fs.ErrNotExist without a file, ErrNotPIDFile for other content, and
// 0 with a nil error means that there is no number a process can have.
func Read(path string) (int, error) {
	f, err := openForLook(path)
	if errors.Is(err, lock.ErrFileType) {
		return 0, pathError(path, ErrNotPIDFile)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	file, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := kindOf(file); err != nil {
		return 0, pathError(path, err)
	}
	content, err := checkContent(f)
	if err != nil {
		return 0, err
	}
	pid, _ := pidtext.Parse(content)
	return pid, nil
}

// kindOf returns what a thing is, if it is not a regular file.
func kindOf(file fs.FileInfo) error {
	switch {
	case file.Mode().IsRegular():
		return nil
	case file.IsDir():
		return ErrDirectory
	}
	return ErrDevice
}
