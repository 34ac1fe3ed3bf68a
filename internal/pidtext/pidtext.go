// Package pidtext knows what may stand in a PID file.
//
// Both packages that look into one, lock (who holds it?) and pidfile (may I
// write here?), must read it alike, so the rule stands here once.
package pidtext

import (
	"bytes"
	"strconv"
)

// MaxSize is the size in bytes above which a file is never taken for a PID
// file. A PID with its newline needs 8.
const MaxSize = 4096

// maxPID is the largest number a process can have: PID_MAX_LIMIT of a 64-bit
// Linux (proc_sys_kernel(5)); the BSDs and macOS stop at 99999.
const maxPID = 1 << 22

// Format returns the content of the PID file of process pid. The newline tells
// a reader that the number is complete.
func Format(pid int) []byte {
	return append(strconv.AppendInt(nil, int64(pid), 10), '\n')
}

// Parse reads the content of a PID file.
//
// ok is false when the file is somebody's data and must not be written: when
// it holds anything but one decimal number and white space. NUL bytes count as
// white space, since a file system may leave them behind after a power loss and
// no leftover may block a start.
//
// pid is 0 when there is no number or when no process can have it (0, -1,
// 99999999999).
func Parse(content []byte) (pid int, ok bool) {
	if len(content) > MaxSize {
		return 0, false
	}
	number := bytes.Trim(content, " \t\r\n\x00")
	if len(number) == 0 {
		return 0, true
	}
	digits := bytes.TrimPrefix(number, []byte("-"))
	if len(digits) == 0 || len(bytes.Trim(digits, "0123456789")) != 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || n < 1 || n > maxPID {
		return 0, true
	}
	return int(n), true
}
