package admin

import (
	"embed"
	"net/http"
)

//go:embed dashboard
var pages embed.FS

// pagePolicy keeps the dashboard to what it is made of: nothing from elsewhere, nothing
// inline, no text that becomes markup (CSP Level 3, Trusted Types).
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// dashboard registers the page for people who look at a balancer, and what it is made of.
// All it shows it reads from /v1/live.
func dashboard(mux *http.ServeMux) {
	page := func(w http.ResponseWriter, r *http.Request, file string) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another version may answer next time
		http.ServeFileFS(w, r, pages, "dashboard/"+file)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { page(w, r, "dashboard.html") })
	mux.HandleFunc("GET /dashboard/{file}", func(w http.ResponseWriter, r *http.Request) { page(w, r, r.PathValue("file")) })
}
