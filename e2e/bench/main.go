package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// sizes are how much of everything there is.
type sizes struct {
	claimDevices, claimKeys   int
	rooms, roomEvents, syncs  int
	members, pushers, events  int
	images, imageAsks         int
	width, height             int // of the images
	files, largeFiles, copies int
	messages, searches        int
}

var full = sizes{
	claimDevices: 200, claimKeys: 100,
	rooms: 1000, roomEvents: 3, syncs: 100,
	members: 10_000, pushers: 20, events: 2000,
	images: 20, imageAsks: 500, width: 4000, height: 3000,
	files: 200, largeFiles: 5, copies: 3,
	messages: 1_000_000, searches: 200,
}

var small = sizes{
	claimDevices: 10, claimKeys: 20,
	rooms: 20, roomEvents: 2, syncs: 10,
	members: 50, pushers: 2, events: 40,
	images: 2, imageAsks: 10, width: 2000, height: 1500,
	files: 5, largeFiles: 1, copies: 2,
	messages: 500, searches: 10,
}

// scenario is something that is measured.
type scenario struct {
	name, what string
	run        func(ctx context.Context, b *bench) error
}

var scenarios = []scenario{
	{"keys", "one-time keys claimed by 32 clients", claimKeys},
	{"sync", "/sync and sliding sync of who is in many rooms", syncs},
	{"push", "events in a room with many members", pushes},
	{"thumbnails", "thumbnails of photographs", thumbnails},
	{"files", "uploads and downloads", files},
	{"search", "searches in many messages", searches},
}

// options are the command line.
type options struct {
	names    []string
	sizes    sizes
	profiles string // the folder for them; "" for none
	target   targetOptions
}

func parse(args []string) (*options, error) {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := &options{sizes: full}
	if slices.Contains(args, "-small") || slices.Contains(args, "--small") {
		o.sizes = small
	}
	set.Bool("small", false, "sizes with which everything runs in seconds; others may be given beside it")
	run := set.String("run", "", "the scenarios, with commas between; all if none is named")
	set.StringVar(&o.profiles, "profiles", "", "a folder for CPU profiles, one of each figure's first seconds")
	o.target.flags(set)
	s := &o.sizes
	for name, size := range map[string]*int{
		"claim-devices": &s.claimDevices, "claim-keys": &s.claimKeys, "rooms": &s.rooms, "room-events": &s.roomEvents, "syncs": &s.syncs,
		"members": &s.members, "pushers": &s.pushers, "events": &s.events, "images": &s.images, "image-asks": &s.imageAsks, "width": &s.width, "height": &s.height,
		"files": &s.files, "large-files": &s.largeFiles, "copies": &s.copies, "messages": &s.messages, "searches": &s.searches,
	} {
		set.IntVar(size, name, *size, "how many, or how large")
	}
	set.Usage = func() {
		fmt.Fprintln(set.Output(), "bench measures a server. Its scenarios:")
		for _, s := range scenarios {
			fmt.Fprintf(set.Output(), "  %-12s %s\n", s.name, s.what)
		}
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(*run, ",") {
		if name == "" {
			continue
		}
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		o.names = append(o.names, name)
	}
	return o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	t, err := newTarget(ctx, o.target)
	if err != nil {
		return err
	}
	defer t.stop()
	return run(ctx, o, t, os.Stdout)
}
