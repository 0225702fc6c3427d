/** The version of this package, which `package.json` has, too. */
export const VERSION = '0.1.0';
