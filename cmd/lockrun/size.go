package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// parseSize reads a number of bytes as the tools of util-linux do: 4096, 010,
// 0x1000, 4K or 4KiB, 4KB (which is 4000), and so on to Y, and 1.5M. The result
// is what it is there, too large a number being negative: two who lock the same
// range must mean the same bytes.
func parseSize(word string) (int64, error) {
	number := strings.TrimLeft(word, space)
	if strings.HasPrefix(number, "-") {
		return 0, unix.EINVAL
	}
	size, rest, err := scanUnsigned(strings.TrimPrefix(number, "+"))
	if err != nil {
		return 0, err
	}
	if rest == "" {
		return int64(size), nil
	}
	var fraction decimal
	if rest[0] == '.' && !isUnit(rest) {
		if fraction, rest, err = scanDecimal(rest[1:]); err != nil {
			return 0, err
		}
	}
	if rest == "" || !isUnit(rest) {
		return 0, unix.EINVAL
	}
	power := strings.IndexByte("KMGTPEZY", rest[0]&^0x20) + 1
	if power == 0 {
		return 0, unix.EINVAL
	}
	base := uint64(1024)
	if len(rest) == 2 {
		base = 1000
	}
	size, ok := scale(size, base, power)
	if !ok {
		return 0, unix.ERANGE
	}
	if fraction.digits != 0 {
		unit, _ := scale(1, base, power)
		size += fraction.of(unit)
	}
	return int64(size), nil
}

// isUnit reports whether a suffix has the form of K, KB or KiB.
func isUnit(s string) bool {
	switch len(s) {
	case 1:
		return true
	case 2:
		return s[1]|0x20 == 'b'
	case 3:
		return s[1] == 'i' && s[2]|0x20 == 'b'
	}
	return false
}

// scale multiplies n by a power of base, and reports whether it fits.
func scale(n, base uint64, power int) (uint64, bool) {
	for range power {
		if ^uint64(0)/base < n {
			return n, false
		}
		n *= base
	}
	return n, true
}

// scanUnsigned reads a number at the beginning of s, in base 8 or 16 if it begins
// with 0 or 0x.
func scanUnsigned(s string) (n uint64, rest string, err error) {
	base, rest := uint64(10), s
	switch {
	case len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' && digit(s[2]) < 16:
		base, rest = 16, s[2:]
	case len(s) > 0 && s[0] == '0':
		base = 8
	}
	overflow, any := false, false
	for ; rest != "" && digit(rest[0]) < base; rest = rest[1:] {
		any = true
		d := digit(rest[0])
		overflow = overflow || n > (^uint64(0)-d)/base
		n = n*base + d
	}
	switch {
	case !any:
		return 0, s, unix.EINVAL
	case overflow:
		return 0, s, unix.ERANGE
	}
	return n, rest, nil
}

func digit(c byte) uint64 {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return uint64(c|0x20-'a') + 10
	}
	return 16
}

// decimal is what stands behind a point: so many zeros, then digits.
type decimal struct {
	zeros  int
	digits uint64
}

func scanDecimal(s string) (d decimal, rest string, err error) {
	for rest = s; rest != "" && rest[0] == '0'; rest = rest[1:] {
		d.zeros++
	}
	if rest != "" && digit(rest[0]) < 10 {
		d.digits, rest, err = scanUnsigned(rest)
	}
	return d, rest, err
}

// of returns that fraction of a unit as util-linux reckons it, digit by digit
// with whole numbers, which is not exact: 0.3K is a third of 1024.
func (d decimal) of(unit uint64) (sum uint64) {
	digits, divisor := d.digits, uint64(10)
	grow := func() {
		if divisor <= ^uint64(0)/10 {
			divisor *= 10
		} else {
			digits /= 10
		}
	}
	for divisor < digits {
		grow()
	}
	for range d.zeros {
		grow()
	}
	for ; digits != 0; digits /= 10 {
		if last := digits % 10; last != 0 && divisor/last != 0 {
			sum += unit / (divisor / last)
		}
		divisor /= 10
	}
	return sum
}
