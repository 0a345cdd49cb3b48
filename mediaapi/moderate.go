package mediaapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

// Bounds of what is asked for or changed at once.
const (
	maxListed   = 1000
	maxSelected = 1000
	deleteBatch = 100
)

// Select reads a selection: 400 M_INVALID_PARAM if it selects nothing.
func Select(sel api.Selection) (out storage.Selection, err error) {
	out = storage.Selection{UserID: sel.UserID, Hash: strings.ToLower(sel.Hash), Server: sel.Server}
	if len(sel.URIs) > maxSelected {
		return out, matrixerror.InvalidParam("There are more than %d URIs", maxSelected)
	}
	for _, uri := range sel.URIs {
		if server, id, err := gomatrixserverlib.ParseMXC(uri); err == nil {
			out.Refs = append(out.Refs, storage.Ref{Server: server, ID: id})
		}
	}
	given := 0
	for _, is := range []bool{len(sel.URIs) > 0, sel.UserID != "", sel.Hash != "", sel.Server != ""} {
		if is {
			given++
		}
	}
	if given != 1 || len(sel.URIs) > 0 && len(out.Refs) == 0 {
		return out, matrixerror.InvalidParam("Media are selected by URIs, a user, a hash or a server")
	}
	return out, nil
}

// Describe describes a row.
func Describe(m *storage.Media) api.Media {
	return api.Media{URI: api.URI(m.Server, m.ID), UserID: m.UserID, CreatedTS: m.CreatedTS, AccessedTS: m.AccessedTS, ContentType: m.ContentType,
		Filename: m.Filename, Size: m.Size, Hash: m.Hash, Quarantined: m.Quarantined, Protected: m.Protected}
}

func (s *Server) queryUserMedia(ctx context.Context, req *api.UserMediaRequest) (*api.UserMediaResponse, error) {
	limit := req.Limit
	if limit <= 0 {
		limit = 100
	}
	var before storage.Media
	if req.From != "" {
		var err error
		if before, err = parseToken(req.From); err != nil {
			return nil, err
		}
	}
	list, err := s.db.UserMedia(ctx, req.UserID, before, min(limit, maxListed))
	if err != nil {
		return nil, err
	}
	res := &api.UserMediaResponse{}
	if res.Bytes, err = s.db.Usage(ctx, req.UserID); err != nil {
		return nil, err
	}
	for i := range list {
		res.Media = append(res.Media, Describe(&list[i]))
	}
	if n := len(list); n == min(limit, maxListed) {
		res.Next = token(&list[n-1])
	}
	return res, nil
}

// token names the place behind a row, in the order of UserMedia.
func token(m *storage.Media) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", m.CreatedTS, m.ID))
}

func parseToken(text string) (m storage.Media, err error) {
	bad := matrixerror.InvalidParam("from is not a token of this list")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return m, bad
	}
	at, id, _ := strings.Cut(string(raw), " ")
	if m.CreatedTS, err = strconv.ParseInt(at, 10, 64); err != nil || id == "" {
		return m, bad
	}
	m.ID = id
	return m, nil
}

func (s *Server) quarantine(ctx context.Context, req *api.QuarantineRequest) (*api.ChangedResponse, error) {
	return s.set(ctx, req.Selection, storage.Quarantined, req.Quarantined)
}

func (s *Server) protect(ctx context.Context, req *api.ProtectRequest) (*api.ChangedResponse, error) {
	return s.set(ctx, req.Selection, storage.Protected, req.Protected)
}

func (s *Server) set(ctx context.Context, sel api.Selection, f storage.Flag, to bool) (*api.ChangedResponse, error) {
	selection, err := Select(sel)
	if err != nil {
		return nil, err
	}
	n, err := s.db.Set(ctx, selection, f, to, s.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	return &api.ChangedResponse{Count: n}, nil
}

func (s *Server) delete(ctx context.Context, req *api.DeleteRequest) (*api.ChangedResponse, error) {
	selection, err := Select(req.Selection)
	if err != nil {
		return nil, err
	}
	n, err := DeleteSelected(ctx, s.db, selection)
	s.wakeJanitor()
	if err != nil {
		return nil, err
	}
	return &api.ChangedResponse{Count: n}, nil
}

// DeleteSelected deletes media, a batch at a time: if it is broken off, it can be
// repeated. Their bytes are removed by a server.
func DeleteSelected(ctx context.Context, db *storage.Database, sel storage.Selection) (n int64, err error) {
	if len(sel.Refs) > 0 {
		deleted, err := db.Delete(ctx, sel.Refs)
		return int64(deleted), err
	}
	for {
		list, err := db.Selected(ctx, sel, deleteBatch)
		if err != nil || len(list) == 0 {
			return n, err
		}
		deleted, err := db.Delete(ctx, refsOf(list))
		if err != nil {
			return n, err
		}
		n += int64(deleted)
	}
}

func refsOf(list []storage.Media) []storage.Ref {
	refs := make([]storage.Ref, len(list))
	for i := range list {
		refs[i] = list[i].Ref
	}
	return refs
}
