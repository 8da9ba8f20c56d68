# fish completion for snicket

function __snicket_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] complete fish $words[2..-1] 2>/dev/null
end

complete -c snicket -n 'test (count (__snicket_complete)) -gt 0' -f -a '(__snicket_complete)'
