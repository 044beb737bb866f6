// A Go channel of buffers as a pool, in one process, and Go's own allocation with its garbage collection; a
// measuring program like those of peer_main.hpp. Its parties are goroutines.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

const name = "Go channel"
const makeName = "Go make"
const chunk = 1024
const batch = 32
const deepSlots = 1536
const wideSlots = 65000

type pool chan []byte

func newPool(slots, bytes int) pool {
	p := make(pool, slots)
	for i := 0; i < slots; i++ {
		p <- make([]byte, bytes)
	}
	return p
}

// As in the other programs: not waiting, since an exhausted pool is an error here.
func (p pool) get() []byte {
	select {
	case b := <-p:
		return b
	default:
		fail("the pool is exhausted")
		return nil
	}
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, "channel:", what)
	os.Exit(1)
}

// Nanoseconds a slot; f does `slots` slots.
func nsPerSlot(budget time.Duration, slots int, ready *sync.WaitGroup, f func()) float64 {
	for end := time.Now().Add(budget / 4); time.Now().Before(end); {
		f()
	}
	ready.Done()
	ready.Wait()
	done := 0
	start := time.Now()
	var spent time.Duration
	for spent < budget {
		f()
		done += slots
		spent = time.Since(start)
	}
	return float64(spent.Nanoseconds()) / float64(done)
}

func alone() *sync.WaitGroup {
	var w sync.WaitGroup
	w.Add(1)
	return &w
}

func pairs(p pool) func() {
	return func() {
		for k := 0; k < chunk; k++ {
			p <- p.get()
		}
	}
}

// More than caches hold, in those peers that have some.
func deep(p pool) func() {
	items := make([][]byte, deepSlots)
	return func() {
		for i := range items {
			items[i] = p.get()
		}
		for i := range items {
			p <- items[i]
		}
	}
}

func atOnce(parties, slots, each int, work func(pool) func(), budget time.Duration) float64 {
	p := newPool(slots, 64)
	var ready, finished sync.WaitGroup
	ready.Add(parties)
	finished.Add(parties)
	sum := make([]float64, parties)
	for i := 0; i < parties; i++ {
		go func(i int) {
			sum[i] = nsPerSlot(budget, each, &ready, work(p))
			finished.Done()
		}(i)
	}
	finished.Wait()
	total := 0.0
	for _, ns := range sum {
		total += ns
	}
	return total / float64(parties)
}

func burst(budget time.Duration) float64 {
	p := newPool(4096, 64)
	var items [batch][]byte
	return nsPerSlot(budget, chunk, alone(), func() {
		for k := 0; k < chunk; k += batch {
			for i := range items {
				items[i] = p.get()
			}
			for i := range items {
				p <- items[i]
			}
		}
	})
}

func stamp(budget time.Duration) float64 {
	p := newPool(4096, 64)
	value := uint64(0)
	return nsPerSlot(budget, chunk, alone(), func() {
		for k := 0; k < chunk; k++ {
			b := p.get()
			value++
			word := (*uint64)(unsafe.Pointer(&b[0]))
			atomic.StoreUint64(word, value)
			if atomic.LoadUint64(word) != value {
				fail("a slot's bytes changed under its holder")
			}
			p <- b
		}
	})
}

func object(budget time.Duration) float64 {
	const bytes = 1 << 20
	p := newPool(64, bytes)
	return writeAndCheck(budget, bytes, p.get, func(b []byte) { p <- b })
}

// What a Go program without a pool does.
func allocated(budget time.Duration, bytes int) float64 {
	return writeAndCheck(budget, bytes, func() []byte { return make([]byte, bytes) }, func([]byte) {})
}

func writeAndCheck(budget time.Duration, bytes int, get func() []byte, put func([]byte)) float64 {
	words := bytes / 8
	seed := uint64(0)
	return nsPerSlot(budget, 1, alone(), func() {
		b := get()
		seed++
		w := unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), words)
		for k := range w {
			w[k] = seed + uint64(k)
		}
		wrong := uint64(0)
		for k := range w {
			wrong |= w[k] ^ (seed + uint64(k))
		}
		if wrong != 0 {
			fail("an object's bytes changed under its holder")
		}
		put(b)
	})
}

func held(budget time.Duration) float64 {
	p := newPool(100000, 64)
	items := make([][]byte, 1000)
	for i := range items {
		items[i] = p.get()
	}
	random := uint64(0x9E3779B97F4A7C15)
	return nsPerSlot(budget, chunk, alone(), func() {
		for k := 0; k < chunk; k++ {
			random ^= random << 13
			random ^= random >> 7
			random ^= random << 17
			i := ((random >> 32) * 1000) >> 32
			next := p.get()
			p <- items[i]
			items[i] = next
		}
	})
}

// The ring of token_ring.hpp; a token is a buffer.
type ring struct {
	head   uint64
	_      [56]byte
	tail   uint64
	_      [56]byte
	tokens [1024][]byte
}

func wait(ready func() bool) {
	for !ready() {
		runtime.Gosched()
	}
}

func (r *ring) push(tokens [][]byte) {
	tail := r.tail
	wait(func() bool {
		return tail+uint64(len(tokens))-atomic.LoadUint64(&r.head) <= uint64(len(r.tokens))
	})
	for k, token := range tokens {
		r.tokens[(tail+uint64(k))%uint64(len(r.tokens))] = token
	}
	atomic.StoreUint64(&r.tail, tail+uint64(len(tokens)))
}

func (r *ring) pop(tokens [][]byte) {
	head := r.head
	wait(func() bool { return atomic.LoadUint64(&r.tail)-head >= uint64(len(tokens)) })
	for k := range tokens {
		tokens[k] = r.tokens[(head+uint64(k))%uint64(len(r.tokens))]
	}
	atomic.StoreUint64(&r.head, head+uint64(len(tokens)))
}

// Several at once, on one pool: the mean of the receivers.
func cross(parties, count int, budget time.Duration) float64 {
	p := newPool(wideSlots, 64)
	results := make(chan float64)
	for i := 0; i < parties/2; i++ {
		go func() { results <- handOver(p, count, budget) }()
	}
	total := 0.0
	for i := 0; i < parties/2; i++ {
		total += <-results
	}
	return total / float64(parties/2)
}

func handOver(p pool, count int, budget time.Duration) float64 {
	r := new(ring)
	go func() {
		tokens := make([][]byte, count)
		for end := time.Now().Add(budget); time.Now().Before(end); {
			for k := 0; k < chunk; k += count {
				for i := range tokens {
					tokens[i] = p.get()
				}
				r.push(tokens)
			}
		}
		r.push(make([][]byte, count))
	}()
	tokens := make([][]byte, count)
	done := 0
	start := time.Now()
	for {
		r.pop(tokens)
		if tokens[0] == nil {
			return float64(time.Since(start).Nanoseconds()) / float64(done)
		}
		for _, token := range tokens {
			p <- token
		}
		done += count
	}
}

// Half of the pool is in different places, and more than the pool crosses over and comes back.
func check() {
	p := newPool(4096, 64)
	seen := map[*byte]bool{}
	for i := 0; i < 2048; i++ {
		seen[&p.get()[0]] = true
	}
	if len(seen) != 2048 {
		fail("two holders have the same memory")
	}
	handOver(newPool(4096, 64), 1, 10*time.Millisecond)
	handOver(newPool(4096, 64), batch, 10*time.Millisecond)
}

// N of a case NAME_N.
func numberOf(what string) int {
	parties, _ := strconv.Atoi(what[strings.LastIndex(what, "_")+1:])
	return parties
}

func measure(what string, budget time.Duration) float64 {
	switch {
	case strings.HasPrefix(what, "pairs_"):
		return atOnce(numberOf(what), 4096, chunk, pairs, budget)
	case strings.HasPrefix(what, "wide_"):
		return atOnce(numberOf(what), wideSlots, chunk, pairs, budget)
	case strings.HasPrefix(what, "deep_"):
		return atOnce(numberOf(what), wideSlots, deepSlots, deep, budget)
	case strings.HasPrefix(what, "cross_1_"):
		return cross(numberOf(what), 1, budget)
	case strings.HasPrefix(what, "cross_32_"):
		return cross(numberOf(what), batch, budget)
	case strings.HasPrefix(what, "size_"):
		return allocated(budget, numberOf(what))
	case what == "burst":
		return burst(budget)
	case what == "stamp":
		return stamp(budget)
	case what == "object":
		return object(budget)
	case what == "held":
		return held(budget)
	case what == "hand_over_1":
		return handOver(newPool(4096, 64), 1, budget)
	case what == "hand_over_32":
		return handOver(newPool(4096, 64), batch, budget)
	}
	fail("no such case: " + what)
	return 0
}

func main() {
	args := os.Args
	if len(args) == 2 && args[1] == "--list" {
		fmt.Printf("%s\tthreads\tsingle\n%s\tthreads\tsizes\n", name, makeName)
		return
	}
	time.AfterFunc(time.Minute, func() { fail("it takes more than a minute") })
	if len(args) == 3 && args[2] == "check" {
		if args[1] == name {
			check()
		}
		return
	}
	if len(args) == 4 && (args[1] == name || args[1] == makeName) {
		if milliseconds, err := strconv.Atoi(args[3]); err == nil && milliseconds > 0 {
			fmt.Printf("%.4f\n", measure(args[2], time.Duration(milliseconds)*time.Millisecond))
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: channel --list | PEER check | PEER CASE MILLISECONDS")
	os.Exit(2)
}
