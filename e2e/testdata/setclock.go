// Package setclock is the clock of a server whose tests set it: the time of day
// is off by as many seconds as the file DENDRITE_TEST_CLOCK says, as an int64; it
// is right without one.
// Durations are measured as ever, as they are on a machine whose clock is set.
package setclock

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var off = open()

func open() *int64 {
	name := os.Getenv("DENDRITE_TEST_CLOCK")
	if name == "" {
		return new(int64)
	}
	f, err := os.Open(name)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&page[0]))
}

// Now is time.Now on a clock that was set. The seconds of the time of day begin
// at bit 30 of a time that has a monotonic reading too.
func Now() time.Time {
	t := time.Now()
	*(*uint64)(unsafe.Pointer(&t)) += uint64(atomic.LoadInt64(off)) << 30
	return t
}

func Since(t time.Time) time.Duration { return Now().Sub(t) }

func Until(t time.Time) time.Duration { return t.Sub(Now()) }

// SQL is the text of what to add to SQLite's clock.
func SQL() string { return strconv.FormatInt(atomic.LoadInt64(off), 10) }
