# bash completion for snicket

_snicket() {
	local cur=${COMP_WORDS[COMP_CWORD]} cword=$COMP_CWORD
	local words=("${COMP_WORDS[@]}")
	# Addresses hold colons, which bash takes for the ends of words.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur words cword
	fi
	mapfile -t COMPREPLY < <("${words[0]}" complete bash "${words[@]:1:cword}" 2>/dev/null)
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -o bashdefault -o default -F _snicket snicket
