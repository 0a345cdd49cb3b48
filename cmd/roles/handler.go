package roles

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
)

// handler makes the handler of all public endpoints of the process's roles.
func (p *process) handler(metrics prometheus.Registerer) (http.Handler, error) {
	var all []httpapi.Endpoint
	for _, role := range p.roles {
		if e, ok := role.(endpoints); ok {
			all = append(all, e.Endpoints()...)
		}
	}
	h, info := p.config.HTTP, p.config.Global.WellKnownClientBaseURL
	if info == "" {
		info = "https://" + p.config.Global.ServerName
	}
	return httpapi.NewRouter(httpapi.Options{Authenticator: newAuthenticator(p.world.caller), Limits: limiter(p.config.RateLimiting), Logger: p.logger,
		Metrics: metrics, MaxBody: h.MaxBodyBytes, BodyTimeout: h.BodyTimeout, TrustedProxies: h.Proxies(), InfoURI: strings.TrimRight(info, "/") + "/"}, all)
}

func limiter(c config.RateLimiting) *httpapi.Limiter {
	buckets := c.Buckets()
	if buckets == nil {
		return nil
	}
	rates := map[httpapi.Limit]httpapi.Rate{}
	for name, r := range buckets {
		rates[httpapi.Limit(name)] = httpapi.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
	}
	return httpapi.NewLimiter(rates)
}
