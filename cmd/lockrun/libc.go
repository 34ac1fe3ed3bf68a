package main

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What the C library does, for the tools that are to be as their originals are.

// strerror is strerror(3) of the C library in English, which begins with a
// capital letter.
func strerror(err error) string {
	s := err.Error()
	if s != "" && 'a' <= s[0] && s[0] <= 'z' {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// errNoNumber says that a word is not a number at all.
var errNoNumber = errors.New("not a number")

// space is what isspace(3) calls so.
const space = " \t\n\v\f\r"

// parseInt32 reads a word as strtol(3) does, in base 10 and to its end.
func parseInt32(word string) (int, error) {
	digits := strings.TrimLeft(word, space)
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		// A word that begins with a number too large is out of range first.
		i := 0
		for i < len(digits) && (digits[i] >= '0' && digits[i] <= '9' || i == 0 && (digits[i] == '+' || digits[i] == '-')) {
			i++
		}
		if _, err := strconv.ParseInt(digits[:i], 10, 64); errors.Is(err, strconv.ErrRange) {
			return 0, unix.ERANGE
		}
		return 0, errNoNumber
	case err != nil, n < math.MinInt32, n > math.MaxInt32:
		return 0, unix.ERANGE
	}
	return int(n), nil
}

// parseSeconds reads a word as strtod(3) does in the C locale: 5, 0.5, 1e3, 0x10,
// infinity.
func parseSeconds(word string) (float64, error) {
	number := strings.TrimLeft(word, space)
	if strings.Contains(number, "_") { // which Go allows
		return 0, errNoNumber
	}
	switch lower := strings.ToLower(strings.TrimLeft(number, "+-")); {
	case strings.HasPrefix(lower, "0x") && !strings.Contains(lower, "p"):
		number += "p0" // which Go insists on
	case lower == "nan" && len(number) <= len("-nan"):
		return math.NaN(), nil // with a sign, too
	}
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, unix.ERANGE
	case err != nil:
		return 0, errNoNumber
	}
	return n, nil
}

// timeval splits seconds into whole ones and microseconds, which must not be
// negative.
func timeval(seconds float64) (whole, micros int64, ok bool) {
	if !(math.Abs(seconds) < 1<<63) {
		return 0, 0, false
	}
	whole = int64(seconds)
	micros = int64((seconds - float64(whole)) * 1e6)
	return whole, micros, whole >= 0 && micros >= 0
}
