//go:build e2e

package web_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// startNginx runs nginx with these servers' directives and returns its address.
func startNginx(t *testing.T, directives string) string {
	t.Helper()
	address, dir := lab.FreeAddr(t), t.TempDir()
	lab.WriteFile(t, filepath.Join(dir, "nginx.conf"), []byte(`
user root; # whose the directory is
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server { listen `+address+`; keepalive_timeout 5s; `+directives+` }
}`))
	p := lab.Start(t, lab.Command{Path: lab.Require(t, "nginx", "nginx"), Args: []string{"-p", dir, "-c", "nginx.conf"}})
	p.WaitReachable(address)
	return address
}

// startNode runs a node server that is given its port and returns its address.
func startNode(t *testing.T, script string) string {
	t.Helper()
	address := lab.FreeAddr(t)
	_, port, _ := net.SplitHostPort(address)
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "server.js"), []byte("const port = "+port+";\n"+script))
	p := lab.Start(t, lab.Command{Path: lab.Require(t, "node", "nodejs"), Args: []string{file}})
	p.WaitReachable(address)
	return address
}

// curl runs curl against the edge and returns what it wrote.
func (e *edge) curl(args ...string) string {
	e.t.Helper()
	_, port, _ := net.SplitHostPort(e.listener.Addr().String())
	all := append([]string{"-sS", "--max-time", "60", "--cacert", e.ca.WriteCA(e.t), "--connect-to", "www.example.com:443:127.0.0.1:" + port}, args...)
	cmd := exec.Command(lab.Require(e.t, "curl", "curl"), all...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		e.t.Fatalf("curl %v: %v: %s", args, err, complaints.String())
	}
	return string(out)
}

// TestDeniedByPrograms: no spelling of a path that nginx or node takes for the denied
// one gets through.
func TestDeniedByPrograms(t *testing.T) {
	for name, address := range map[string]string{
		"nginx":           startNginx(t, `location / { return 200 other; } location /admin { return 200 admin; }`),
		"nginx, unmerged": startNginx(t, `merge_slashes off; location / { return 200 other; } location /admin { return 200 admin; }`),
		"node": startNode(t, `require("http").createServer((q, r) => {
			let p; try { p = decodeURIComponent(new URL(q.url, "http://x").pathname) } catch (e) { p = "" }
			r.end(p == "/admin" || p.startsWith("/admin/") ? "admin" : "other") }).listen(port, "127.0.0.1")`),
		"node, path.normalize": startNode(t, `require("http").createServer((q, r) => {
			let p; try { p = require("path").posix.normalize(decodeURIComponent(q.url.split("?")[0])) } catch (e) { p = "" }
			r.end(p == "/admin" || p.startsWith("/admin/") ? "admin" : "other") }).listen(port, "127.0.0.1")`),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackends(t)
			b.addAddress("b1", address)
			e := newPlainEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true}), Deny: []web.Rule{{Path: "/admin*/**"}}}))
			all := spellings()
			directly, throughEdge := sayAll(t, address, all), sayAll(t, e.listener.Addr().String(), all)
			reached := 0
			for i, target := range all {
				direct, through := directly[i], throughEdge[i]
				if strings.HasSuffix(direct, "admin") {
					reached++
					if !strings.HasPrefix(through, "403 ") && !strings.HasPrefix(through, "400 ") {
						t.Errorf("%s: the server has it as denied, and through the edge it says %s", target, through)
					}
				}
				if strings.HasSuffix(through, "admin") {
					t.Errorf("%s: reached what is denied", target)
				}
			}
			if reached < 20 {
				t.Errorf("the server takes %d of the spellings for the denied path: too few to try anything", reached)
			}
		})
	}
}

// sayAll asks a server for each target, as it stands, and returns the statuses and
// bodies.
func sayAll(t *testing.T, address string, targets []string) []string {
	out := make([]string, len(targets))
	var wg sync.WaitGroup
	const at = 50 // at once: some servers keep a client waiting for its acknowledgement
	for first := range at {
		wg.Go(func() {
			for i := first; i < len(targets); i += at {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(c, "GET "+targets[i]+" HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
				c.SetReadDeadline(time.Now().Add(lab.Patience))
				if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
					t.Errorf("%s: %v", targets[i], err)
				} else {
					body, _ := io.ReadAll(res.Body)
					out[i] = fmt.Sprint(res.StatusCode, " ", string(body))
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	return out
}

// spellings are ways to write a path that may mean /admin.
func spellings() []string {
	var all []string
	for _, before := range []string{"/", "//", "/./", "/x/../", "/x/..//", "//x/../", "/x/%2e%2e/", "/x/%2E./", "/x%2f../", "/x%2f%2e%2e%2f", `/x\..\`, "/x/..%5c", "/x;/../", "/x/..;/", "/%2f", "/%2e/", "/x/y/../../", "/../", "/%252e/", "/a%00/../"} {
		for _, name := range []string{"admin", "%61dmin", "admi%6e", "%61%64%6d%69%6e", "ADMIN", "%2561dmin"} {
			for _, after := range []string{"", "/", "/x", "%2fx", "/..", "/../admin", ";x", "?x", "%3fx", "#x", "%23", "%00", ".", "%20", "/%2e%2e/admin"} {
				all = append(all, before+name+after)
			}
		}
	}
	return all
}

// TestCurl: files, ranges, uploads with and without waiting, to nginx and node, by
// both protocols.
func TestCurl(t *testing.T) {
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "f"), make([]byte, 0))
	content := new(bytes.Buffer)
	_, _ = io.CopyN(content, lab.Pattern(7), 3<<20)
	if err := os.WriteFile(file, content.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content.Bytes()))
	b := newBackends(t)
	b.addAddress("nginx", startNginx(t, `root `+filepath.Dir(file)+`;`))
	files := newEdge(t, web.NewSite(web.SiteOptions{HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true})}))
	n := newBackends(t)
	n.addAddress("node", startNode(t, `require("http").createServer((q, r) => {
		const h = require("crypto").createHash("sha256"); q.on("data", d => h.update(d)).on("end", () => {
		r.setHeader("X-Continued", String(q.headers.expect)); r.end(h.digest("hex") + " " + q.headers["x-forwarded-for"]) }) }).listen(port, "127.0.0.1")`))
	uploads := newEdge(t, web.NewSite(web.SiteOptions{Forwarded: true, Pool: n.pool(web.PoolOptions{Shared: true})}))
	const url = "https://www.example.com/f"
	for _, version := range []string{"--http1.1", "--http2"} {
		got := files.curl(version, url)
		if fmt.Sprintf("%x", sha256.Sum256([]byte(got))) != sum {
			t.Errorf("%s: %d bytes came that are not the file's %d", version, len(got), content.Len())
		}
		if got := files.curl(version, "-r", "100-199", "-w", "%{http_code}", url); got != string(content.Bytes()[100:200])+"206" {
			t.Errorf("%s: a range: %d bytes", version, len(got))
		}
		head := strings.ToLower(files.curl(version, "-I", url))
		if !strings.Contains(head, "content-length: 3145728\r\n") || strings.Count(head, "strict-transport-security: max-age=1\r\n") != 1 || !strings.Contains(head, "server: nginx") {
			t.Errorf("%s: HEAD: %s", version, head)
		}
		for _, expect := range []string{"Expect:", "Expect: 100-continue"} {
			if got := uploads.curl(version, "-H", expect, "-T", file, url); got != sum+" 127.0.0.1" {
				t.Errorf("%s, %s: the backend says %q, want %q", version, expect, got, sum+" 127.0.0.1")
			}
			if got := uploads.curl(version, "-H", expect, "-H", "Transfer-Encoding: chunked", "-X", "POST", "--data-binary", "@"+file, url); version == "--http1.1" && got != sum+" 127.0.0.1" {
				t.Errorf("%s, %s, chunked: the backend says %q, want %q", version, expect, got, sum+" 127.0.0.1")
			}
		}
	}
}

// TestNodeWebSocket: an upgrade between a client and a server of node.
func TestNodeWebSocket(t *testing.T) {
	b := newBackends(t)
	b.addAddress("node", startNode(t, `require("http").createServer().on("upgrade", (q, s) => {
		const a = require("crypto").createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
		s.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + a + "\r\n\r\n");
		s.on("error", () => {}); s.pipe(s) }).listen(port, "127.0.0.1")`))
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	_, port, _ := net.SplitHostPort(e.listener.Addr().String())
	script := lab.WriteFile(t, filepath.Join(t.TempDir(), "client.js"), []byte(`
		const fs = require("fs"), q = require("https").request({ host: "127.0.0.1", port: `+port+`, servername: "www.example.com", ca: fs.readFileSync(`+fmt.Sprintf("%q", e.ca.WriteCA(t))+`),
			headers: { Host: "www.example.com", Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" } });
		q.on("upgrade", (r, s) => {
			console.log("accept", r.headers["sec-websocket-accept"]);
			const sent = Buffer.alloc(1 << 20, "x"); let n = 0;
			s.on("data", d => { n += d.length; if (n == sent.length) s.end() }).on("close", () => console.log("echoed", n));
			s.write(sent);
		});
		q.end();`))
	p := lab.Start(t, lab.Command{Path: lab.Require(t, "node", "nodejs"), Args: []string{script}})
	p.WaitLine(`^accept ` + regexp.QuoteMeta("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") + `$`) // RFC 6455 §1.3
	p.WaitLine(`^echoed 1048576$`)
	if code := p.Wait(lab.Patience); code != 0 {
		t.Errorf("node ended with %d", code)
	}
}

// TestH2load: many requests at once over few connections, all answered; and nghttp
// is told of the limits.
func TestH2load(t *testing.T) {
	b := newBackends(t)
	for _, name := range []string{"n1", "n2"} {
		b.addAddress(name, startNginx(t, `location / { return 200 hello; }`))
	}
	e := newEdge(t, web.NewSite(web.SiteOptions{Keepalive: time.Minute, Pool: b.pool(web.PoolOptions{Shared: true})}))
	url := "https://" + e.listener.Addr().String() + "/"
	for _, args := range [][]string{{"-m", "50"}, {"--h1"}} {
		out, err := exec.Command(lab.Require(t, "h2load", "nghttp2-client"), append(args, "-n", "5000", "-c", "10", url)...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx")) {
			t.Errorf("h2load %v: %v\n%s", args, err, out)
		}
	}
	out, err := exec.Command(lab.Require(t, "nghttp", "nghttp2-client"), "-nv", url).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("SETTINGS_MAX_CONCURRENT_STREAMS(0x03):250")) || !bytes.Contains(out, []byte(":status: 200")) {
		t.Errorf("nghttp: %v\n%s", err, out)
	}
	// Of 10,000 requests nearly all went over connections that were there.
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.dials["n1"] + b.dials["n2"]; n > 2500 {
		t.Errorf("%d dials for 10,000 requests, want few", n)
	} else {
		t.Logf("%d dials for 10,000 requests", n)
	}
}
