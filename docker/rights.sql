-- MySQL runs this once, when its volume is new. Another prefix than labweave_ needs a line of its own.
grant all on `labweave\_%`.* to labweave@'%';
