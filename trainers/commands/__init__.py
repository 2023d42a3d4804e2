"""One file or folder for each verb that is not Lightning's."""
