package clientapi

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/pushrules"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

func (s *Server) pushRuleEndpoints() []httpapi.Endpoint {
	const rules = v3 + "/pushrules"
	const rule = rules + "/global/{kind}/{ruleId}"
	e := func(method, path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: h}
	}
	return []httpapi.Endpoint{
		e("GET", rules+"/{$}", s.getPushRules),
		e("GET", rules+"/global/{$}", s.getGlobalPushRules),
		e("GET", rule, s.getPushRule),
		e("PUT", rule, s.putPushRule),
		e("DELETE", rule, s.deletePushRule),
		e("GET", rule+"/enabled", s.getPushRuleEnabled),
		e("PUT", rule+"/enabled", s.putPushRuleEnabled),
		e("GET", rule+"/actions", s.getPushRuleActions),
		e("PUT", rule+"/actions", s.putPushRuleActions),
	}
}

func (s *Server) pushRules(r *httpapi.Request) (*pushrules.Rules, error) {
	content, err := s.accountDataOf(r.Context(), r.Device.UserID, "", userapi.TypePushRules)
	if err != nil {
		return nil, err
	}
	return pushrules.Load(content, r.Device.UserID, pushrules.Features{ThreadSubscriptions: !s.config.ThreadSubscriptions.Disabled})
}

// getPushRules serves GET /pushrules/.
func (s *Server) getPushRules(r *httpapi.Request) (any, error) {
	rules, err := s.pushRules(r)
	if err != nil {
		return nil, err
	}
	return rules.Content()
}

// getGlobalPushRules serves GET /pushrules/global/.
func (s *Server) getGlobalPushRules(r *httpapi.Request) (any, error) {
	rules, err := s.pushRules(r)
	if err != nil {
		return nil, err
	}
	return rules.Global()
}

func (s *Server) pathRule(r *httpapi.Request) (pushrules.Rule, error) {
	rules, err := s.pushRules(r)
	if err != nil {
		return pushrules.Rule{}, err
	}
	return rules.Get(r.PathValue("kind"), r.PathValue("ruleId"))
}

// getPushRule serves GET of a rule.
func (s *Server) getPushRule(r *httpapi.Request) (any, error) {
	rule, err := s.pathRule(r)
	if err != nil {
		return nil, err
	}
	return &rule, nil
}

// getPushRuleEnabled serves GET of whether a rule is on.
func (s *Server) getPushRuleEnabled(r *httpapi.Request) (any, error) {
	rule, err := s.pathRule(r)
	if err != nil {
		return nil, err
	}
	return map[string]bool{"enabled": rule.Enabled}, nil
}

// getPushRuleActions serves GET of a rule's actions.
func (s *Server) getPushRuleActions(r *httpapi.Request) (any, error) {
	rule, err := s.pathRule(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"actions": rule.Actions}, nil
}

func (s *Server) changePushRule(r *httpapi.Request, change userapi.RuleChange, rule pushrules.Rule) error {
	rule.ID = r.PathValue("ruleId")
	_, err := userapi.ChangePushRule.Call(r.Context(), s.caller, &userapi.ChangePushRuleRequest{
		UserID: r.Device.UserID, Kind: r.PathValue("kind"), Change: change, Rule: rule,
		Before: r.QueryString("before"), After: r.QueryString("after"),
	})
	return err
}

// putPushRule serves PUT of a rule.
func (s *Server) putPushRule(r *httpapi.Request) (any, error) {
	var req struct {
		Actions    []jsontext.Value `json:"actions"`
		Conditions []jsontext.Value `json:"conditions"`
		Pattern    *string          `json:"pattern"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Actions == nil {
		return nil, matrixerror.MissingParam("actions is missing")
	}
	if r.QueryString("before") != "" && r.QueryString("after") != "" {
		return nil, matrixerror.InvalidParam("A rule goes before one or after one, not both")
	}
	return nil, s.changePushRule(r, userapi.RulePut, pushrules.Rule{Actions: req.Actions, Conditions: req.Conditions, Pattern: req.Pattern})
}

// deletePushRule serves DELETE of a rule.
func (s *Server) deletePushRule(r *httpapi.Request) (any, error) {
	return nil, s.changePushRule(r, userapi.RuleDelete, pushrules.Rule{})
}

// putPushRuleEnabled serves PUT of whether a rule is on.
func (s *Server) putPushRuleEnabled(r *httpapi.Request) (any, error) {
	var req struct {
		Enabled *bool `json:"enabled"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Enabled == nil {
		return nil, matrixerror.MissingParam("enabled is missing")
	}
	return nil, s.changePushRule(r, userapi.RuleEnable, pushrules.Rule{Enabled: *req.Enabled})
}

// putPushRuleActions serves PUT of a rule's actions.
func (s *Server) putPushRuleActions(r *httpapi.Request) (any, error) {
	var req struct {
		Actions []jsontext.Value `json:"actions"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Actions == nil {
		return nil, matrixerror.MissingParam("actions is missing")
	}
	return nil, s.changePushRule(r, userapi.RuleActions, pushrules.Rule{Actions: req.Actions})
}
