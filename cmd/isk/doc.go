// Command isk manages API keys, for staff and scripts. It works on the stores
// of module sqlstore. docs/command.md is its guide, and isk help lists what it
// does.
//
//	go install github.com/insigner/auth/cmd/isk@latest
//
// # How a command is added
//
// A command is one file, named after it, and a script in testdata/script. The
// file has a function that makes the command, and registers it:
//
//	func init() { register(keyCommands, newShow) }
//
//	func newShow(a *app) *cobra.Command {
//		return &cobra.Command{
//			Use:     "show ID",
//			Short:   "Show a key",
//			Long:    "Show what is known of a key. …",
//			Example: "  isk show 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e",
//			Args:    exactly("ID"),
//			RunE: func(c *cobra.Command, args []string) error {
//				s, err := a.open(c.Context())
//				if err != nil {
//					return err
//				}
//				r, err := s.keys.Get(c.Context(), args[0])
//				if err != nil {
//					return err
//				}
//				return a.showKey(&r)
//			},
//		}
//	}
//
// What it can rely on:
//   - No argument looks like a key: they were refused before.
//   - An error that it returns is told, with its code and exit code, by
//     app.fail. Errors of the store are marked by the session. For others, see
//     [wrongUsage], [failf] and [failure]. Never quote what could be a secret.
//   - app.open connects, once, and app.run closes.
//   - What a program reads goes to a.stdout: by [app.writeJSON], or with
//     [app.newTable] for rows. With a.json there is nothing else on it, and
//     nothing on stderr but one object at the end. What people read goes to
//     stderr, by [app.say], [app.warn] and [app.newProgress].
//   - Texts of others are made fit for a terminal by [printable]. Tables do so.
//   - What cannot be undone asks by [app.confirm].
//   - The context ends with SIGINT and SIGTERM.
package main
