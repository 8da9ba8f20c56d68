package web

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// upload is the body of a request on its way to the backend.
type upload struct {
	io.ReadCloser
	x       *exchange
	behind  trailers
	touched atomic.Bool
	whole   atomic.Bool // it was read to its end
}

// Read reads from the client.
func (u *upload) Read(b []byte) (int, error) {
	u.touched.Store(true)
	n, err := u.ReadCloser.Read(b)
	if n > 0 {
		u.x.stamp()
	}
	if errors.Is(err, io.EOF) {
		u.behind.arrive()
		u.whole.Store(true)
		u.x.sent()
	}
	return n, err
}

// once is the body of a request for one time that it is sent. net/http closes it
// when that has failed, which must not keep the rest from being sent another time,
// nor may what lags behind read any more.
type once struct {
	io.ReadCloser
	closed atomic.Bool
}

// Read reads from the client.
func (o *once) Read(b []byte) (int, error) {
	if o.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return o.ReadCloser.Read(b)
}

// Close ends reading.
func (o *once) Close() error {
	o.closed.Store(true)
	return nil
}

// download is the body of an answer on its way to the client. Closing it ends the
// attempt.
type download struct {
	io.ReadCloser
	a      *attempt
	err    error // why it was cut short, by the backend's fault
	closed atomic.Bool
}

// download returns the body of res. That of an upgraded connection can be written
// to.
func (a *attempt) download(res *http.Response) io.ReadCloser {
	d := &download{ReadCloser: res.Body, a: a}
	a.x.answer = d
	if w, ok := res.Body.(io.ReadWriteCloser); ok && res.StatusCode == http.StatusSwitchingProtocols {
		a.x.upgraded = true
		if f := a.x.visit.client.Switched; f != nil {
			f()
		}
		return &tunnel{download: d, w: w}
	}
	return d
}

// Read reads from the backend.
func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	if n > 0 {
		d.a.x.stamp()
	}
	if err != nil && !errors.Is(err, io.EOF) && d.a.x.ctx.Err() == nil {
		d.err = err
		d.a.x.visit.fail(err)
	}
	return n, err
}

// Close gives the connection back.
func (d *download) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	err := d.ReadCloser.Close()
	d.a.release(d.err)
	return err
}

// tunnel is an upgraded connection to the backend.
type tunnel struct {
	*download
	w io.Writer
}

// Write writes to the backend.
func (t *tunnel) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	if n > 0 {
		t.a.x.stamp()
	}
	return n, err
}

// CloseWrite tells the backend that the client sends no more.
func (t *tunnel) CloseWrite() error { return closeWrite(t.w) }

// closeWrite ends one direction of what w writes to. That it cannot be done alone is
// an error, for which the caller ends both.
func closeWrite(w io.Writer) error {
	if c, ok := w.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
