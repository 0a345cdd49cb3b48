package admin

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Report is what Status shows.
type Report struct {
	Places []Place `json:"places"`
	// Marks say why no server may run, by store.
	Marks    map[string]string `json:"marks,omitzero"`
	Findings []Finding         `json:"findings"`
}

// Status looks at an installation; servers may run on it, if its log is not for
// one process only. What the log holds is left out where that is in use.
func Status(ctx context.Context, i *Installation) (*Report, error) {
	if err := i.prepare(ctx); err != nil {
		return nil, err
	}
	places, err := i.places(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{Places: places, Marks: map[string]string{}, Findings: []Finding{}}
	for _, c := range components() {
		m, err := i.Stores[c.store].Marked(ctx)
		if err != nil {
			return nil, err
		}
		if m != nil {
			r.Marks[c.store] = m.Reason
		}
	}
	if i.Log != nil {
		r.Findings, err = i.check(ctx, places)
	}
	return r, err
}

// JSON writes the report for programs.
func (r *Report) JSON(out io.Writer) error {
	return json.MarshalWrite(out, r, jsontext.WithIndent("  "))
}

// Text writes the report for people. Where nobody has a partition, the owner is
// "-"; a place that was never stored is "-" too.
func (r *Report) Text(out io.Writer) error {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tCONSUMER\tTOPIC\tPART\tNEXT\tSEQ\tSTART\tEND\tLAG\tOWNER\tTOPIC ID\t")
	for _, p := range r.Places {
		next, seq, owner := fmt.Sprint(p.Next), fmt.Sprint(p.Seq), p.Owner
		if p.TopicID == "" {
			next = "-"
		}
		if p.Seq < 0 {
			seq = "-"
		}
		if owner == "" {
			owner = "-"
		}
		if p.Address != "" {
			owner += " (" + p.Address + ")"
		}
		id := p.LogID
		if p.TopicID != "" && p.TopicID != p.LogID {
			id = p.TopicID + " (the log has " + p.LogID + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", p.Store, p.Consumer, p.Topic, p.Partition, next, seq, p.Start, p.End, p.Lag, owner, id, p.Wrong)
	}
	for store, reason := range r.Marks {
		fmt.Fprintf(w, "%s: no server may run: %s\n", store, reason)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(w, f.String())
	}
	return w.Flush()
}
