package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"time"
)

//go:embed dashboard
var pageFiles embed.FS

// pagePolicy keeps the dashboard to what it is made of: nothing from elsewhere, nothing
// inline, no text that becomes markup (CSP Level 3, Trusted Types).
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// dashboard is the page for people who look at a balancer, and what it is made of, by
// name. All it shows it reads from /v1/live.
type dashboard map[string]page

type page struct {
	text []byte
	tag  string // as of ETag
}

func newDashboard() dashboard {
	d := dashboard{}
	_ = fs.WalkDir(pageFiles, "dashboard", func(path string, entry fs.DirEntry, _ error) error {
		if !entry.IsDir() {
			text, _ := pageFiles.ReadFile(path) // embedded: there is none that cannot be read
			sum := sha256.Sum256(text)
			d[entry.Name()] = page{text, `"` + hex.EncodeToString(sum[:16]) + `"`}
		}
		return nil
	})
	return d
}

func (d dashboard) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, "dashboard.html") })
	mux.HandleFunc("GET /dashboard/{file}", func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, r.PathValue("file")) })
}

func (d dashboard) serve(w http.ResponseWriter, r *http.Request, file string) {
	p, ok := d[file]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // another version may answer next time
	h.Set("ETag", p.tag)
	http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(p.text))
}
