/** As short as a password may be; the server judges all of it. */
const MIN_CHARACTERS = 10

export function isPassword(text: string): boolean {
  return [...text].length >= MIN_CHARACTERS
}
