#compdef snicket

_snicket() {
	local -a found
	found=("${(@f)$("${words[1]}" complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
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
