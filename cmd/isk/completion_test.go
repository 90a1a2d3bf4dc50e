package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCompletion starts each shell, loads its script and asks for completions.
func TestCompletion(t *testing.T) {
	catalog := filepath.Join(t.TempDir(), "catalog.json")
	err := os.WriteFile(catalog, []byte(`[{"scope":"documents.read","description":"Read"},
		{"scope":"documents.send"},{"scope":"org.read"}]`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		// Bash-completion has this function. Without it, the script of a
		// test has its part that is needed.
		"bash": `
			declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref() {
				cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
			}
			source "$SCRIPT"
			COMP_LINE=$LINE COMP_POINT=${#LINE}
			read -ra COMP_WORDS <<<"$LINE"
			[[ $LINE == *' ' ]] && COMP_WORDS+=('')
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
			compopt() { :; }
			__start_isk
			printf '%s\n' "${COMPREPLY[@]}"`,
		"fish": `source $SCRIPT; complete -C $LINE`,
		"zsh": `
			zmodload zsh/zpty
			cat >setup <<'SETUP'
				PS1= COLUMNS=200 LISTMAX=0
				autoload -Uz compinit; compinit -u -D
				source $SCRIPT; compdef _isk isk
				unsetopt auto_menu
				starts() { print "begins"now }
				shows() { print -r -- "[$BUFFER]ends"now }
				zle -N zle-line-init starts
				zle -N shows
				bindkey '^Xp' shows
SETUP
			awaits() { local text; while [[ $out != *$1* ]]; do zpty -r shell text || return; out+=$text; done }
			zpty shell zsh -f -i
			zpty -w shell source ./setup
			awaits beginsnow
			zpty -w -n shell "$LINE"$'\t'
			for word in ${=WAIT}; do awaits $word; done # a list is not shown while there is more input
			zpty -w -n shell $'\x18p'
			awaits endsnow
			print -r -- "$out"`,
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				skip(t, shell)
			}
			file := filepath.Join(t.TempDir(), "_isk")
			if err := os.WriteFile(file, []byte(env{}.must(t, "completion", shell).stdout), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				line string
				want []string
				not  []string
			}{
				{"isk re", []string{"revoke"}, []string{"create"}},
				{"isk list --state ", []string{"active", "disabled", "revoked", "expired"}, nil},
				{"isk events --kind r", []string{"rotated", "revoked"}, []string{"created"}},
				{"isk create --scope documents.", []string{"documents.read", "documents.send"}, []string{"org.read"}},
				{"isk list --own", []string{"--owner"}, nil},
				{"isk completion ", []string{"bash", "zsh", "fish"}, nil},
				{"isk show ", nil, []string{"_isk", "SCRIPT"}},
			} {
				wait := test.want
				if len(wait) == 1 {
					wait = nil // it is in the line
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // zsh waits for what is missing
				defer cancel()
				c := exec.CommandContext(ctx, shell, "-c", script)
				c.Dir = filepath.Dir(file)
				c.WaitDelay = time.Second
				c.Env = append(os.Environ(), "SCRIPT="+file, "LINE="+test.line, "WAIT="+strings.Join(wait, " "),
					"PATH="+bin(t)+":"+os.Getenv("PATH"), "HOME="+c.Dir,
					"TERM=dumb", envCatalog+"="+catalog, envDatabase+"=postgres://staff:s3cr3t@127.0.0.1:1/api")
				out, err := c.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v: %s", test.line, err, out)
				}
				for _, word := range test.want {
					if !strings.Contains(string(out), word) {
						t.Errorf("%s: %s is not among the completions: %s", test.line, word, out)
					}
				}
				for _, word := range append(test.not, "s3cr3t", "127.0.0.1") {
					if strings.Contains(string(out), word) {
						t.Errorf("%s: %s is among the completions: %s", test.line, word, out)
					}
				}
			}
		})
	}
}

// bin returns a directory with the command.
func bin(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "isk")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCompletionDoesNotConnect asks for completions where there is a database
// that does not answer: nothing is tried.
func TestCompletionDoesNotConnect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.db")
	e := env{envDatabase: fileURL(file)}
	for _, args := range [][]string{{"show", ""}, {"list", "--owner", ""}, {"create", "--scope", ""}, {"create", "--name", ""},
		{"revoke", ""}, {"revoke", "--made", ""}, {"list", "--database", ""}, {"", ""}, {"list", "--state", ""}} {
		r := e.must(t, append([]string{"__complete"}, args...)...)
		if !strings.Contains(r.stdout, ":") {
			t.Errorf("%v: no directive: %s", args, r.stdout)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a completion has opened the database")
	}
}
