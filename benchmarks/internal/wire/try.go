package wire

import (
	"fmt"
	"io"
	"net"
	"time"
)

// Try runs one short session of the kind that spec asks for, to its end. Nil says that the balancer serves.
func Try(spec Spec) error {
	if spec.TLS {
		return (&tlsLoad{spec: spec}).one((&tlsLoad{spec: spec}).config(), make([]byte, answerSize))
	}
	h, err := newHello(Command{Mode: Answer, Size: answerSize})
	if err != nil {
		return err
	}
	if spec.Names > 1 {
		h.setName(spec.Names - 1)
	}
	conn, err := net.DialTimeout("tcp", spec.Address.String(), settleTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(settleTime)); err != nil {
		return err
	}
	if _, err := conn.Write(h.bytes); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if len(got) != answerSize {
		return fmt.Errorf("an answer of %d bytes, want %d", len(got), answerSize)
	}
	return nil
}
