package userapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

const (
	typeFullyRead = "m.fully_read"
	typeTag       = "m.tag"
	// maxAccountData bounds the events of account data of a user.
	maxAccountData = 10_000
	// maxTags bounds the tags of a room.
	maxTags = 100
	// maxProfile bounds a whole profile, in bytes.
	// spec: client-server-api §profiles
	maxProfile = 64 << 10
)

func (s *Server) registerData(srv *rpc.Server) {
	api.QueryProfile.Serve(srv, s.queryProfile)
	api.PutProfile.Serve(srv, s.setProfile)
	api.QueryAccountData.Serve(srv, s.queryAccountData)
	api.PutAccountData.Serve(srv, s.putAccountData)
	api.DeleteAccountData.Serve(srv, s.deleteAccountData)
	api.PutTag.Serve(srv, s.putTag)
	api.PutFilter.Serve(srv, s.putFilter)
	api.QueryFilter.Serve(srv, s.queryFilter)
	api.PutReceipts.Serve(srv, s.putReceipts)
	api.QueryReceipts.Serve(srv, s.queryReceipts)
	api.ChangePushRule.Serve(srv, s.changePushRule)
	api.QueryPastRules.Serve(srv, s.queryPastRules)
	api.Forget.Serve(srv, s.forget)
	api.QueryForgotten.Serve(srv, s.queryForgotten)
	api.QueryGuests.Serve(srv, s.queryGuests)
	api.QueryHeads.Serve(srv, s.queryHeads)
	api.Resync.Serve(srv, s.resync)
	api.TakeJob.Serve(srv, s.takeJob)
	api.RenewJob.Serve(srv, s.renewJob)
	api.FinishJob.Serve(srv, s.finishJob)
	api.SetTyping.Serve(srv, s.setTyping)
	api.SetPresence.Serve(srv, s.setPresence)
	api.QueryPresence.Serve(srv, s.queryPresence)
}

func (s *Server) queryProfile(ctx context.Context, r *api.ProfileRequest) (*api.ProfileResponse, error) {
	fields, ok, err := s.db.ProfileOf(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, matrixerror.NotFound("There is no such user")
	}
	return &api.ProfileResponse{Fields: fields}, nil
}

// putProfile stores a field and the change that tells of it.
func (s *Server) putProfile(ctx context.Context, tx *sqldb.Tx, userID, field string, value jsontext.Value) (res api.WriteResponse, err error) {
	if err := s.db.PutProfileField(ctx, tx, userID, field, value); err != nil {
		return res, err
	}
	profile, err := s.db.Profile(ctx, tx, userID)
	if err != nil {
		return res, err
	}
	if field == "displayname" {
		if err := s.putWords(ctx, tx, userID); err != nil {
			return res, err
		}
	}
	content, err := json.Marshal(profile, json.Deterministic(true))
	if err != nil {
		return res, err
	}
	if len(content) > maxProfile {
		return res, matrixerror.New(400, "M_PROFILE_TOO_LARGE", "The profile would be larger than %d bytes", maxProfile)
	}
	return s.db.Change(ctx, tx, api.UserChange{UserID: userID, Kind: api.ChangeProfile, Content: content})
}

func (s *Server) setProfile(ctx context.Context, r *api.PutProfileRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) (err error) {
		if _, _, err = s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		if res, err = s.putProfile(ctx, tx, r.UserID, r.Field, r.Value); err != nil {
			return err
		}
		if r.Quiet || r.Field != "displayname" && r.Field != "avatar_url" {
			return nil
		}
		return s.db.PutJob(ctx, tx, storage.Job{UserID: r.UserID, Kind: string(api.JobProfile), ID: newToken()}, s.now().UnixMilli())
	})
	return &res, err
}

// queryAccountData returns what is stored; push rules are always among it.
func (s *Server) queryAccountData(ctx context.Context, r *api.AccountDataRequest) (*api.AccountDataResponse, error) {
	data, err := s.db.AccountData(ctx, r.UserID, r.RoomIDs, r.Types)
	if err != nil {
		return nil, err
	}
	wanted := (r.RoomIDs == nil || slices.Contains(r.RoomIDs, "")) && (r.Types == nil || slices.Contains(r.Types, api.TypePushRules))
	if wanted {
		loaded, err := pushrules.Load(data[""][api.TypePushRules], r.UserID, s.features)
		if err != nil {
			return nil, err
		}
		rules, err := loaded.Content()
		if err != nil {
			return nil, err
		}
		if data[""] == nil {
			data[""] = map[string]jsontext.Value{}
		}
		data[""][api.TypePushRules] = rules
	}
	return &api.AccountDataResponse{Data: data}, nil
}

// storeAccountData stores an event, or deletes it, with its change.
func (s *Server) storeAccountData(ctx context.Context, tx *sqldb.Tx, userID, roomID, typ string, content jsontext.Value) (res api.WriteResponse, err error) {
	if content != nil {
		n, err := s.db.CountAccountData(ctx, tx, userID, roomID, typ)
		if err != nil {
			return res, err
		}
		if n >= maxAccountData {
			return res, matrixerror.UserLimit(403, "There is too much account data")
		}
	}
	changed, err := s.db.PutAccountData(ctx, tx, userID, roomID, typ, content)
	if err != nil || !changed {
		return res, err
	}
	return s.db.Change(ctx, tx, api.AccountDataChange(userID, roomID, typ, content))
}

func (s *Server) putAccountData(ctx context.Context, r *api.PutAccountDataRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) (err error) {
		res, err = s.storeAccountData(ctx, tx, r.UserID, r.RoomID, r.Type, r.Content)
		return err
	})
	return &res, err
}

func (s *Server) deleteAccountData(ctx context.Context, r *api.DeleteAccountDataRequest) (*api.WriteResponse, error) {
	return s.putAccountData(ctx, &api.PutAccountDataRequest{UserID: r.UserID, RoomID: r.RoomID, Type: r.Type})
}

// putTag changes one tag within the room's m.tag.
func (s *Server) putTag(ctx context.Context, r *api.PutTagRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		stored, err := s.db.OneAccountData(ctx, tx, r.UserID, r.RoomID, typeTag)
		if err != nil {
			return err
		}
		var doc struct {
			Tags map[string]jsontext.Value `json:"tags"`
		}
		if stored != nil {
			if err := json.Unmarshal(stored, &doc); err != nil {
				doc.Tags = nil // what a client stored there itself is no tags
			}
		}
		if doc.Tags == nil {
			doc.Tags = map[string]jsontext.Value{}
		}
		if r.Content == nil {
			delete(doc.Tags, r.Tag)
		} else {
			doc.Tags[r.Tag] = r.Content
		}
		if len(doc.Tags) > maxTags {
			return matrixerror.Forbidden("The room has more than %d tags", maxTags)
		}
		content, err := json.Marshal(&doc, json.Deterministic(true))
		if err != nil {
			return err
		}
		res, err = s.storeAccountData(ctx, tx, r.UserID, r.RoomID, typeTag, content)
		return err
	})
	return &res, err
}

// putFilter names a filter by its content: the same one is stored once.
func (s *Server) putFilter(ctx context.Context, r *api.PutFilterRequest) (*api.PutFilterResponse, error) {
	content := r.Filter.Clone()
	if err := content.Canonicalize(); err != nil {
		return nil, matrixerror.BadJSON("The filter is not an object")
	}
	sum := sha256.Sum256(content)
	id := base64.RawURLEncoding.EncodeToString(sum[:12])
	return &api.PutFilterResponse{FilterID: id}, s.db.PutFilter(ctx, r.UserID, id, content)
}

func (s *Server) queryFilter(ctx context.Context, r *api.FilterRequest) (*api.FilterResponse, error) {
	content, err := s.db.Filter(ctx, r.UserID, r.FilterID)
	if err == nil && content == nil {
		err = matrixerror.NotFound("There is no such filter")
	}
	return &api.FilterResponse{Filter: content}, err
}

func (s *Server) putReceipts(ctx context.Context, r *api.PutReceiptsRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		for i := range r.Receipts {
			changed, err := s.db.PutReceipt(ctx, tx, r.UserID, r.RoomID, r.Receipts[i])
			if err != nil {
				return err
			}
			if !changed {
				continue
			}
			receipt := r.Receipts[i]
			if res, err = s.db.Change(ctx, tx, api.UserChange{UserID: r.UserID, Kind: api.ChangeReceipt, RoomID: r.RoomID, Type: receipt.Type, Receipt: &receipt}); err != nil {
				return err
			}
		}
		if r.FullyRead == "" {
			return nil
		}
		content, err := json.Marshal(map[string]string{"event_id": r.FullyRead})
		if err != nil {
			return err
		}
		res, err = s.storeAccountData(ctx, tx, r.UserID, r.RoomID, typeFullyRead, content)
		return err
	})
	return &res, err
}

func (s *Server) queryReceipts(ctx context.Context, r *api.ReceiptsRequest) (*api.ReceiptsResponse, error) {
	receipts, err := s.db.Receipts(ctx, r.UserID, r.RoomIDs)
	return &api.ReceiptsResponse{Receipts: receipts}, err
}

func (s *Server) changePushRule(ctx context.Context, r *api.ChangePushRuleRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		stored, err := s.db.OneAccountData(ctx, tx, r.UserID, "", api.TypePushRules)
		if err != nil {
			return err
		}
		rules, err := pushrules.Load(stored, r.UserID, s.features)
		if err != nil {
			return err
		}
		before, err := rules.Content()
		if err != nil {
			return err
		}
		if r.Change == api.RuleCopy {
			if !rules.CopyRoom(r.Before, r.Rule.ID) {
				return nil
			}
		} else if err := changeRule(rules, r); err != nil {
			return err
		}
		content, err := rules.Content()
		if err != nil {
			return err
		}
		if bytes.Equal(before, content) {
			return nil
		}
		if res, err = s.storeAccountData(ctx, tx, r.UserID, "", api.TypePushRules, content); err != nil {
			return err
		}
		return s.db.PutPastRules(ctx, tx, r.UserID, res.Seq, s.now().UnixMilli(), before)
	})
	return &res, err
}

func (s *Server) queryPastRules(ctx context.Context, r *api.PastRulesRequest) (*api.PastRulesResponse, error) {
	rules, err := s.db.PastRules(ctx, r.UserID)
	return &api.PastRulesResponse{Rules: rules}, err
}

func changeRule(rules *pushrules.Rules, r *api.ChangePushRuleRequest) error {
	switch r.Change {
	case api.RulePut:
		return rules.Put(r.Kind, r.Before, r.After, r.Rule)
	case api.RuleDelete:
		return rules.Delete(r.Kind, r.Rule.ID)
	case api.RuleEnable:
		return rules.SetEnabled(r.Kind, r.Rule.ID, r.Rule.Enabled)
	case api.RuleActions:
		return rules.SetActions(r.Kind, r.Rule.ID, r.Rule.Actions)
	}
	return matrixerror.InvalidParam("There is no such change of push rules")
}

func (s *Server) forget(ctx context.Context, r *api.ForgetRequest) (*api.WriteResponse, error) {
	var res api.WriteResponse
	err := s.write(ctx, func(tx *sqldb.Tx) (err error) {
		if err := s.db.Forget(ctx, tx, r.UserID, r.RoomID, r.EventID); err != nil {
			return err
		}
		res, err = s.db.Change(ctx, tx, api.UserChange{UserID: r.UserID, Kind: api.ChangeForget, RoomID: r.RoomID, EventID: r.EventID})
		return err
	})
	return &res, err
}

func (s *Server) queryForgotten(ctx context.Context, r *api.ForgottenRequest) (*api.ForgottenResponse, error) {
	id, err := s.db.Forgotten(ctx, r.UserID, r.RoomID)
	return &api.ForgottenResponse{EventID: id}, err
}

func (s *Server) queryHeads(ctx context.Context, _ *api.HeadsRequest) (*api.HeadsResponse, error) {
	seqs, err := s.db.Heads(ctx)
	return &api.HeadsResponse{Seqs: seqs}, err
}

func (s *Server) queryGuests(ctx context.Context, r *api.GuestsRequest) (*api.GuestsResponse, error) {
	guests, err := s.db.Guests(ctx, r.UserIDs)
	return &api.GuestsResponse{UserIDs: guests}, err
}
