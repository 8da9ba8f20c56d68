#compdef snicket

_snicket() {
	local -a asked found
	asked=("${(@)words[1,CURRENT-1]}")
	if [[ ${words[CURRENT]} == -* ]]; then
		asked+=("${words[CURRENT]}")
	fi
	found=("${(@f)$(env 0=zsh "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${found[1]} ]]; then
		_describe 'snicket' found
	else
		_files
	fi
}

if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
	_snicket "$@"
else
	compdef _snicket snicket
fi
