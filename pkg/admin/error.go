package admin

import (
	"errors"
	"net/http"
)

// Error is why a request was refused, in the form in which it is answered.
type Error struct {
	Status   int      `json:"-"` // of HTTP
	Text     string   `json:"error"`
	Hint     string   `json:"hint"`     // what to do about it; may be empty
	Problems []string `json:"problems"` // each thing that is wrong, where Text sums them up
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

func refuse(status int, text, hint string) *Error {
	return &Error{Status: status, Text: text, Hint: hint, Problems: []string{}}
}

// BadRequest is an Error for a request that means nothing.
func BadRequest(text, hint string) *Error { return refuse(http.StatusBadRequest, text, hint) }

// NotFound is an Error for a request about what there is not.
func NotFound(text, hint string) *Error { return refuse(http.StatusNotFound, text, hint) }

// Conflict is an Error for a request that cannot be met as things stand.
func Conflict(text, hint string, problems []string) *Error {
	e := refuse(http.StatusConflict, text, hint)
	e.Problems = append(e.Problems, problems...)
	return e
}

// answer writes v, or what err says, as JSON.
func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = refuse(http.StatusInternalServerError, err.Error(), "")
		}
		status, v = e.Status, e
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// It fails when the client has gone, whom nobody needs to tell.
	_ = WriteJSON(w, v, "")
}
