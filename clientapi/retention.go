package clientapi

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/retention"
)

// msc1763 is the unstable name of what this file serves.
const msc1763 = "org.matrix.msc1763"

func (s *Server) retentionEndpoints() []httpapi.Endpoint {
	return []httpapi.Endpoint{
		{Method: "GET", Path: unstable + "/" + msc1763 + "/retention/configuration", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getRetention},
	}
}

type retentionLimits struct {
	Min *retention.Limits `json:"min_lifetime,omitzero"`
	Max *retention.Limits `json:"max_lifetime,omitzero"`
}

type retentionConfiguration struct {
	Policies map[string]retention.Policy `json:"policies"`
	Limits   retentionLimits             `json:"limits"`
}

// getRetention tells how long this server keeps events.
// spec: MSC1763 §server-defined-retention
func (s *Server) getRetention(*httpapi.Request) (any, error) {
	answer := retentionConfiguration{Policies: map[string]retention.Policy{}}
	if s.retention == nil {
		return answer, nil
	}
	answer.Limits = retentionLimits{s.retention.MinLimits, s.retention.MaxLimits}
	if s.retention.Default != nil {
		answer.Policies["*"] = *s.retention.Default
	}
	for roomID, p := range s.retention.Rooms {
		answer.Policies[roomID] = p
	}
	return answer, nil
}

// checkRetention refuses an event that says nothing sensible of how long events are
// kept: it would count as none.
// spec: MSC1763 §per-room-retention
func checkRetention(typ, stateKey string, content jsontext.Value) error {
	if stateKey != "" || !slices.Contains(retention.Types(), typ) {
		return nil
	}
	if _, err := retention.Parse(content); err != nil {
		return matrixerror.BadJSON("The content is not that of %s: %v", typ, err)
	}
	return nil
}
